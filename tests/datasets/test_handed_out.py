"""What an import says of how its comparisons are handed out: batches, tags and gold."""

import json
from pathlib import Path

import pytest

from labelapp.datasets.actions import freeze_snapshot
from labelapp.labeling.batches import create_batch
from labelapp.labeling.quality.gold import unseen_gold
from labelapp.labeling.queue import claim_slot
from labelapp.models import Batch, Comparison, Judgment, Membership, ProtocolVersion
from tests.datasets.rows import take, vote
from tests.datasets.test_freeze import TEST, TRAIN
from tests.factories import add_member, make_project, make_user
from tests.labeling.conftest import claim_and_answer


@pytest.fixture
def project(db):
    return make_project("debates")


@pytest.fixture
def labeler(project):
    person = make_user()
    add_member(project, person, "labeler")
    return person


def asked(prompt, **more):
    return {"prompt": prompt, "completions": [f"{prompt}: yes", f"{prompt}: no"], **more}


def test_rows_name_their_batch_which_gives_them_its_priority(project, labeler):
    urgent = create_batch(project=project, name="urgent", priority=-1)
    report = take(project, asked("one"), asked("two", batch="urgent"), asked("three", batch="new"), asked("four"))
    assert (report.open_comparisons, report.known) == (4, 0)
    assert {batch.name: batch.comparisons.count() for batch in Batch.objects.all()} == {"urgent": 1, "new": 1}
    assert claim_slot(project=project, labeler=labeler).comparison.batch == urgent

    again = take(project, asked("two", batch="urgent"))
    assert (again.open_comparisons, again.known) == (0, 1)


def test_rows_name_the_tags_that_a_labeler_must_have(project, labeler):
    take(project, asked("one", requires=["de", " law ", "de"]))
    assert Comparison.objects.get().requires == ["de", "law"]
    assert claim_slot(project=project, labeler=labeler) is None
    Membership.objects.update(tags=["law", "de"])
    assert claim_slot(project=project, labeler=labeler)


def test_a_gold_row_is_nobodys_work_and_checks_people(project, labeler):
    row = asked("one", gold=[[1], [0]], explanation="No is right.", requires=[])
    report = take(project, row)
    comparison = Comparison.objects.get()
    assert (report.comparisons, report.open_comparisons, report.judgments, report.known) == (1, 0, 0, 0)
    right = comparison.ordered_completions()[comparison.gold[0][0]]
    assert (right.text, comparison.explanation) == ("one: no", "No is right.")
    assert claim_slot(project=project, labeler=labeler) is None
    assert unseen_gold(project.memberships.get()).get() == comparison
    again = take(project, row)
    assert (again.comparisons, again.known) == (0, 1)


def test_a_gold_row_marks_what_is_there_already(project, labeler):
    take(project, asked("one"))
    take(project, asked("one", gold={"both_bad": True}))
    assert Comparison.objects.get().gold == {"both_bad": True}
    assert claim_slot(project=project, labeler=labeler) is None


@pytest.mark.parametrize(("here", "stored"), [(4, 4), (3, 3), (2, 2), (1, 1)])
def test_a_strength_keeps_its_share_in_another_projects_grades(project, here, stored):
    ProtocolVersion.objects.create(project=project, number=2, definition={"max_strength": here})
    take(project, asked("one", strength=4, max_strength=4), asked("two", strength=-1, max_strength=4))
    strong, weak = Judgment.objects.order_by("pk")
    assert (abs(strong.strength), abs(weak.strength)) == (stored, 1)


def test_judgments_of_nine_steps_can_be_imported_again(project, labeler, settings, tmp_path):
    settings.ARTIFACT_DIR = tmp_path
    definition = {"max_strength": 4, "unrankable": True}
    ProtocolVersion.objects.create(project=project, number=2, definition=definition)
    vote(project, "a", group=TRAIN[0])
    vote(project, "a", group=TEST[0])
    take(project, asked("one") | {"group": TRAIN[1]})
    claim_and_answer(project, labeler, strength=4)
    take(project, {"prompt": "rank", "completions": ["x", "y", "z"], "group": TRAIN[1]})
    claim_and_answer(project, labeler, ranking=((0,), (2,)), unrankable=(1,))
    snapshot = freeze_snapshot(project=project, by=None)
    rows = [json.loads(line) for line in (Path(snapshot.path) / "judgments.jsonl").read_text().splitlines()]

    other = make_project("copy")
    ProtocolVersion.objects.create(project=other, number=2, definition=definition)
    take(other, *rows)
    said = ("ranking", "strength", "unrankable", "both_bad")
    copies = [list(Judgment.objects.filter(comparison__project=p).values(*said)) for p in (project, other)]
    assert sorted(copies[0], key=str) == sorted(copies[1], key=str)
