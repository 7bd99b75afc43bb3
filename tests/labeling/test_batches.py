from datetime import UTC, datetime

import pytest

from labelapp.labeling.batches import assign_to_batch, create_batch, set_deadline, set_priority
from labelapp.labeling.overview.people import pause, resume
from labelapp.labeling.queue import claim_slot
from labelapp.labeling.refusals import BadBatch
from labelapp.models import Comparison, Judgment, Membership, Slot
from tests.factories import make_comparison, make_project
from tests.labeling.conftest import answer, claim_and_answer


def test_a_batch_gives_its_priority_to_what_is_not_answered(project, labeler):
    first, second, later = (make_comparison(project) for _ in range(3))
    Slot.objects.filter(comparison=later).update(shuffle_key=-(2**31))
    Slot.objects.filter(comparison=first).update(state="done", labeler=labeler)
    batch = create_batch(project=project, name=" Week 1 ", priority=-5)
    assert batch.name == "Week 1"
    assert assign_to_batch([first, second], batch) == 2
    assert list(Slot.objects.order_by("comparison").values_list("priority", flat=True)) == [0, -5, 0]
    assert claim_slot(project=project, labeler=labeler).comparison == second

    set_priority(batch, 3)
    batch.refresh_from_db()
    assert (batch.priority, Slot.objects.get(comparison=second).priority) == (3, 3)
    assert assign_to_batch(Comparison.objects.filter(batch=batch), None) == 2
    assert Slot.objects.get(comparison=second).priority == 0


def test_a_deadline_can_be_set_and_taken_away(project):
    batch = create_batch(project=project, name="b")
    for deadline in (datetime(2026, 12, 24, tzinfo=UTC), None):
        set_deadline(batch, deadline)
        batch.refresh_from_db()
        assert batch.deadline == deadline


def test_a_batch_takes_nothing_of_another_project(project):
    stranger = make_comparison(make_project())
    assert assign_to_batch([stranger], create_batch(project=project, name="b", priority=1)) == 0
    stranger.refresh_from_db()
    assert (stranger.batch, stranger.slots.get().priority) == (None, 0)


@pytest.mark.parametrize(("about", "said"), [({"name": " "}, "1 to 120"), ({"priority": 2**31}, "out of range")])
def test_a_batch_needs_a_name_and_a_priority_that_fits(project, about, said):
    with pytest.raises(BadBatch, match=said):
        create_batch(project=project, **{"name": "b"} | about)


def test_a_name_is_taken_once_in_a_project(project):
    create_batch(project=project, name="b")
    with pytest.raises(BadBatch, match="There is a batch 'b' already"):
        create_batch(project=project, name="b")
    create_batch(project=make_project(), name="b")


def test_a_paused_labeler_gets_nothing_and_gives_back_what_they_hold(project, labeler, join):
    make_comparison(project)
    slot = claim_slot(project=project, labeler=labeler)
    mine = Membership.objects.get(user=labeler)
    pause(mine, " Too fast. ")
    mine.refresh_from_db()
    assert (mine.paused_because, bool(mine.paused_at)) == ("Too fast.", True)
    assert claim_slot(project=project, labeler=labeler) is None
    assert claim_slot(project=project, labeler=join()).pk == slot.pk

    make_comparison(project)
    resume(mine)
    assert claim_slot(project=project, labeler=labeler)


def test_what_they_were_writing_is_kept(project, labeler, join):
    make_comparison(project)
    slot = claim_slot(project=project, labeler=labeler)
    pause(Membership.objects.get(user=labeler), "")
    assert not answer(slot, labeler).surplus
    make_comparison(project)
    resume(Membership.objects.get(user=labeler))
    slot = claim_slot(project=project, labeler=labeler)
    pause(Membership.objects.get(user=labeler), "")
    claim_and_answer(project, join())
    assert answer(slot, labeler).surplus
    assert Judgment.objects.count() == 3
