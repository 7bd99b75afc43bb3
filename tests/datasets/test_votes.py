"""What counts as a vote in a snapshot, with answers as labelers give them."""

import json
from pathlib import Path

import pytest

from labelapp.datasets.actions import freeze_snapshot
from labelapp.labeling.quality.gold import hand_gold, make_gold
from labelapp.labeling.quality.quiz import begin_quiz
from labelapp.labeling.quality.reask import reask
from labelapp.labeling.quality.repeats import plan_repeat
from labelapp.labeling.queue import claim_slot
from labelapp.models import Judgment, Project, ProtocolVersion, Slot
from tests.datasets.rows import vote
from tests.datasets.test_freeze import TEST, TRAIN
from tests.factories import add_member, make_comparison, make_project, make_prompt, make_user
from tests.labeling.conftest import answer, claim_and_answer
from tests.labeling.test_gold import for_position


@pytest.fixture
def project(db, settings, tmp_path):
    """With the two decided pairs that every snapshot needs."""
    settings.ARTIFACT_DIR = tmp_path
    project = make_project("debates")
    vote(project, "aa", group=TRAIN[0])
    vote(project, "bb", group=TEST[0])
    return project


@pytest.fixture
def labeler(project):
    person = make_user()
    add_member(project, person, "labeler")
    return person


def ask(project, *texts, **protocol):
    """A comparison in a train group, under the protocol given."""
    if protocol:
        number = project.protocol_versions.last().number + 1
        ProtocolVersion.objects.create(project=project, number=number, definition=protocol)
    return make_comparison(project, *texts, prompt=make_prompt(project, group=TRAIN[1]), slots=1)


def frozen(project, comparison) -> tuple[list[dict], list[dict]]:
    """The rows of one comparison in the pairs and in the judgments."""
    snapshot = freeze_snapshot(project=project, by=None)
    files = [Path(snapshot.path) / f"{name}.jsonl" for name in ("pairs-train", "judgments")]
    rows = [[json.loads(line) for line in file.read_text().splitlines()] for file in files]
    return tuple([row for row in file if row["comparison"] == comparison.pk] for file in rows)


def test_a_judgment_of_work_is_a_vote_and_says_how_it_came_about(project, labeler):
    comparison = ask(project)
    claim_and_answer(project, labeler, strength=-3, seen=[1.0, 0.5])
    (pair,), (row,) = frozen(project, comparison)
    assert (pair["votes_chosen"], pair["margin"]) == (1, 1.0)
    assert (row["purpose"], row["repeats"], row["implied_by"], row["unrankable"]) == ("", None, None, [])
    assert sorted(row["seen"]) == [0.5, 1.0]


def test_answers_to_gold_are_no_votes_but_those_before_it_was_gold_are(project, labeler):
    comparison = ask(project)
    claim_and_answer(project, labeler, strength=-3)
    before, _ = frozen(project, comparison)
    make_gold(comparison, gold=[[0], [1]])
    others = [make_user() for _ in range(2)]
    for other in others:
        add_member(project, other, "labeler")
        slot = hand_gold(project, other.pk)
        chosen = comparison.ordered_completions().index(_completion(comparison, before[0]["rejected"]))
        answer(claim_slot(project=project, labeler=other), other, **for_position(slot, chosen))
    pairs, rows = frozen(project, comparison)
    assert pairs == before
    assert [row["purpose"] for row in rows] == ["", "gold", "gold"]


def _completion(comparison, message):
    return comparison.completions.get(text=message[0]["content"])


def test_answers_to_a_quiz_are_no_votes(project, labeler):
    Project.objects.update(quiz_items=1, quiz_right=1)
    project.refresh_from_db()
    comparison = ask(project)
    make_gold(comparison, gold=[[0], [1]])
    begin_quiz(project=project, labeler=labeler)
    claim_and_answer(project, labeler, strength=1)
    pairs, rows = frozen(project, comparison)
    assert pairs == []
    assert [row["purpose"] for row in rows] == ["quiz"]


def test_a_swapped_repeat_is_in_the_judgments_and_names_what_it_repeats(project, labeler):
    comparison = ask(project)
    first = claim_and_answer(project, labeler, strength=-3)
    slot = plan_repeat(first)
    Slot.objects.filter(pk=slot.pk).update(not_before=first.created_at)
    claim_and_answer(project, labeler, strength=-3)  # the other way round: now for the other one

    pairs, rows = frozen(project, slot.comparison)
    assert pairs == []
    assert [(row["purpose"], row["repeats"], row["origin"]) for row in rows] == [("repeat", comparison.pk, "swapped")]
    assert frozen(project, comparison)[0][0]["votes_chosen"] == 1


def test_an_answer_that_was_asked_again_is_one_vote_the_latest(project, labeler):
    comparison = ask(project)
    first = claim_and_answer(project, labeler, strength=-3)
    reask(judgments=[first], note="")
    claim_and_answer(project, labeler, strength=3)
    (pair,), (row,) = frozen(project, comparison)
    assert (pair["votes_chosen"], pair["votes_rejected"]) == (1, 0)
    assert (row["replaces"], row["purpose"]) == (first.pk, "reask")
    shown_right = comparison.ordered_completions()[Judgment.objects.last().display_order[1]]
    assert pair["chosen"][0]["content"] == shown_right.text


CRITERION = {"key": "helpful", "label": "Helpful"}


def test_ratings_make_no_pairs_and_stand_in_the_judgments(project, labeler):
    comparison = ask(project, "one", "two", form="rating", criteria=[CRITERION])
    claim_and_answer(project, labeler, ratings={"helpful": (2, 5)})
    pairs, (row,) = frozen(project, comparison)
    assert pairs == []
    assert (row["ranking"], row["strength"], row["both_bad"]) == (None, None, False)
    assert sorted(row["ratings"]["helpful"]) == [2, 5]


def test_a_project_that_only_rates_can_be_frozen(project, labeler):
    rates = make_project(labeler=labeler)
    comparison = ask(rates, "one", form="rating", criteria=[CRITERION])
    claim_and_answer(rates, labeler, ratings={"helpful": (4,)})
    pairs, (row,) = frozen(rates, comparison)
    assert (pairs, row["ratings"]) == ([], {"helpful": [4]})


def test_a_demonstration_makes_no_pair(project, labeler):
    ask(project, form="demonstration")
    comparison = project.comparisons.last()
    comparison.comparisoncompletion_set.all().delete()
    comparison.slots.update(display_order=[])
    claim_and_answer(project, labeler, rewrite="This is how I would say it.")
    pairs, (row,) = frozen(project, comparison)
    assert pairs == []
    assert (row["completions"], row["rewrite"]) == ([], "This is how I would say it.")


def test_a_completion_that_could_not_be_ranked_is_in_no_pair(project, labeler):
    comparison = ask(project, "one", "two", "three", form="ranking", unrankable=True)
    judgment = claim_and_answer(project, labeler, ranking=((2,), (0,)), unrankable=(1,))
    (pair,), (row,) = frozen(project, comparison)
    texts = [completion.text for completion in comparison.ordered_completions()]
    assert row["unrankable"] == judgment.unrankable == [1]
    assert (pair["chosen"][0]["content"], pair["rejected"][0]["content"]) == (texts[2], texts[0])


@pytest.mark.parametrize(("most", "strength", "margin"), [(4, 4, 1.0), (4, 1, 0.25), (1, 1, 1.0), (3, 2, 0.666667)])
def test_a_margin_is_a_share_of_the_protocols_strongest_grade(project, labeler, most, strength, margin):
    comparison = ask(project, "one", "two", max_strength=most)
    claim_and_answer(project, labeler, strength=strength)
    (pair,), (row,) = frozen(project, comparison)
    assert pair["margin"] == margin
    assert abs(row["strength"]) == strength


def test_margins_of_two_protocols_are_comparable(project, labeler):
    comparison = ask(project, "one", "two", max_strength=4)
    Slot.objects.filter(comparison=comparison).update(state="closed")
    definition = ProtocolVersion.objects.create(project=project, number=9, definition={"max_strength": 2})
    for most, said in ((comparison.protocol, 2), (definition, 2)):
        Judgment.objects.create(
            comparison=comparison, external_annotator=f"person of {most.number}", protocol=most, ranking=[[1], [0]],
            strength=said, submission_id=f"00000000-0000-0000-0000-00000000000{most.number}",
        )  # fmt: skip
    (pair,), _ = frozen(project, comparison)
    assert pair["margin"] == 0.75  # 2 of 4, and 2 of 2


def test_a_rewrite_is_a_pair_of_its_own(project, labeler):
    comparison = ask(project, "one", "two", rewrite="optional")
    judgment = claim_and_answer(project, labeler, strength=1, rewrite="three", rewrite_of=0)
    implied = judgment.implies.get()
    (pair,), (row,) = frozen(project, implied.comparison)
    assert pair["chosen"][0]["content"] == "three"
    assert pair["rejected"][0]["content"] == comparison.ordered_completions()[judgment.rewrite_of].text
    assert (row["origin"], row["implied_by"]) == ("rewrite", judgment.pk)
