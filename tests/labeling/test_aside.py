"""Skips, drafts, revisions and rewrites."""

from uuid import uuid4

import pytest

from labelapp.labeling.actions import revisable, revise, undo_last
from labelapp.labeling.answers import Answer
from labelapp.labeling.drafts import save_draft
from labelapp.labeling.queue import claim_slot
from labelapp.labeling.refusals import NotAnAnswer, NotYours, Superseded
from labelapp.labeling.skips import skip_item
from labelapp.models import Comparison, Completion, Draft, Judgment, ProtocolVersion, Skip, WorkDay
from tests.factories import make_comparison
from tests.labeling.conftest import answer, claim_and_answer, shown


@pytest.fixture
def slot(project, labeler):
    make_comparison(project, "one", "two")
    return claim_slot(project=project, labeler=labeler)


def ask(project, **definition):
    ProtocolVersion.objects.create(project=project, number=2, definition=definition)


def test_what_was_skipped_goes_to_others_and_never_comes_back(project, labeler, slot, join):
    skip_item(project=project, claim=shown(slot), labeler=labeler, reason="language", comment=" Czech ")
    assert claim_slot(project=project, labeler=labeler) is None
    assert claim_slot(project=project, labeler=join()).pk == slot.pk
    assert Skip.objects.get().comment == "Czech"
    assert WorkDay.objects.get().skipped == 1


def test_only_what_is_held_can_be_skipped_and_only_for_a_known_reason(project, labeler, slot, join):
    with pytest.raises(NotAnAnswer, match="'dull' is not a reason"):
        skip_item(project=project, claim=shown(slot), labeler=labeler, reason="dull")
    with pytest.raises(NotYours):
        skip_item(project=project, claim=shown(slot), labeler=join(), reason="other")
    assert not Skip.objects.exists()


def test_an_older_draft_never_overwrites_a_newer_one_or_the_answer(labeler, slot):
    claim = shown(slot)
    assert save_draft(claim=claim, labeler=labeler, revision=2, body={"answer": "1"})
    assert not save_draft(claim=claim, labeler=labeler, revision=1, body={"answer": "2"})
    assert Draft.objects.get().body == {"answer": "1"}
    answer(slot, labeler)
    assert not Draft.objects.exists()
    assert not save_draft(claim=claim, labeler=labeler, revision=3, body={"answer": "3"})
    assert not Draft.objects.exists()


def test_a_judgment_of_the_last_twenty_can_be_revised_once_at_a_time(project, labeler, slot):
    first = answer(slot, labeler, strength=1)
    change = {"project": project, "labeler": labeler, "judgment_id": first.pk}
    submission = uuid4()
    second = revise(**change, submission_id=submission, answer=Answer(strength=-2))
    assert revise(**change, submission_id=submission, answer=Answer(strength=-2)) == second
    assert (second.replaces, second.display_order) == (first, first.display_order)
    assert [row.pk for row in revisable(project=project, labeler=labeler)] == [second.pk]
    with pytest.raises(NotYours):
        revise(**change, submission_id=uuid4(), answer=Answer(strength=0))


def test_nobody_revises_somebody_else_or_what_was_replaced_meanwhile(project, labeler, slot, join, monkeypatch):
    first = answer(slot, labeler)
    change = {"project": project, "judgment_id": first.pk, "answer": Answer(strength=0)}
    with pytest.raises(NotYours):
        revise(**change, labeler=join(), submission_id=uuid4())
    stale = revisable(project=project, labeler=labeler)
    revise(**change, labeler=labeler, submission_id=uuid4())
    monkeypatch.setattr("labelapp.labeling.actions.revisable", lambda **_: stale)
    with pytest.raises(Superseded):
        revise(**change, labeler=labeler, submission_id=uuid4())


def test_a_rewrite_becomes_a_completion_and_a_pair_with_what_it_improves(project, labeler):
    ask(project, rewrite="both_bad")
    make_comparison(project, "one", "two")
    judgment = claim_and_answer(project, labeler, both_bad=True, rewrite="better", rewrite_of=0)
    implied = Judgment.objects.get(implied_by=judgment)
    improved = judgment.comparison.ordered_completions()[judgment.display_order[0]]
    assert [row.text for row in implied.comparison.ordered_completions()] == [improved.text, "better"]
    assert (implied.ranking, implied.comparison.origin) == ([[1], [0]], "rewrite")
    assert Completion.objects.get(text="better").author == "human"
    assert implied.comparison.slots.count() == 0


def test_undo_withdraws_what_followed_from_the_rewrite_and_writing_it_again_brings_it_back(project, labeler):
    ask(project, rewrite="both_bad")
    make_comparison(project)
    said = {"both_bad": True, "rewrite": "better"}
    claim_and_answer(project, labeler, **said)
    assert Judgment.objects.standing().count() == 3
    back = undo_last(project=project, labeler=labeler)
    assert not Judgment.objects.standing().exists()
    answer(back, labeler, **said)
    assert Judgment.objects.standing().count() == 3
    assert Comparison.objects.count() == 3


def test_a_rewrite_that_changes_nothing_is_refused_and_nothing_is_stored(project, labeler):
    ask(project, rewrite="optional")
    make_comparison(project, "one", "two")
    with pytest.raises(NotAnAnswer, match="same as the response"):
        claim_and_answer(project, labeler, strength=1, rewrite="one")
    assert not Judgment.objects.exists()


def test_a_demonstration_is_written_to_a_prompt_without_completions(project, labeler):
    ask(project, form="demonstration")
    from labelapp.labeling.queue import create_comparison
    from tests.factories import make_prompt

    create_comparison(project=project, prompt=make_prompt(project), completions=[], origin="random")
    judgment = claim_and_answer(project, labeler, rewrite="My answer.")
    assert (judgment.ranking, judgment.rewrite) == (None, "My answer.")
    assert Completion.objects.get().text == "My answer."


def test_ratings_alone_are_a_judgment(project, labeler):
    ask(project, form="rating", criteria=[{"key": "clear", "label": "Clear"}])
    make_comparison(project, "one", "two")
    judgment = claim_and_answer(project, labeler, ratings={"clear": (5, 1)})
    order = judgment.display_order
    assert judgment.ratings == {"clear": [(5, 1)[order.index(0)], (5, 1)[order.index(1)]]}
