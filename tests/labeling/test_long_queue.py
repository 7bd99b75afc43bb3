"""What took long in a long queue is not done over and over; nobody misses an item for it."""

from datetime import timedelta
from uuid import uuid4

import pytest
from django.utils import timezone

from labelapp.accounts.people import set_tags
from labelapp.datasets.bulk import order_change
from labelapp.labeling import queue
from labelapp.labeling.batches import assign_to_batch, create_batch, set_priority
from labelapp.labeling.queue import LEASE, claim_slot, create_comparison
from labelapp.labeling.setup.extension import extend_open_comparisons
from labelapp.models import Comparison, Membership, Project, Slot
from tests.factories import make_comparison, make_completion, make_prompt, make_user
from tests.labeling.conftest import claim_and_answer
from tests.labeling.test_claims import all_that_is_handed, reserve

LEAST = -(2**31)


@pytest.fixture
def long_queue(monkeypatch):
    """Any queue is a long one, and any look through it takes long."""
    changed = queue.CLAIM.replace("interval '50 ms'", "interval '0'").replace("OFFSET 5000", "OFFSET 0")
    monkeypatch.setattr(queue, "CLAIM", changed)


def place(project, **fields):
    comparison = make_comparison(project)
    Slot.objects.filter(comparison=comparison).update(**fields)
    return comparison.pk


def remember(until):
    """As if the look had taken so long that what it found holds until then."""
    membership = Membership.objects.get()
    assert membership.passed_until
    assert timezone.now() - timedelta(minutes=1) < membership.passed_until <= timezone.now() + LEASE
    Membership.objects.update(passed_until=timezone.now() + until)


def handed(project, labeler):
    slot = claim_slot(project=project, labeler=labeler)
    return slot and slot.comparison_id


def test_who_found_nothing_looks_again_after_a_while_and_at_once_for_what_is_theirs(long_queue, project, labeler):
    place(project, requires=["de"])
    assert handed(project, labeler) is None
    remember(timedelta(minutes=9))
    new = place(project, shuffle_key=LEAST)
    assert handed(project, labeler) is None
    gold = reserve(project, labeler)
    assert claim_slot(project=project, labeler=labeler) == gold
    Slot.objects.filter(pk=gold.pk).update(lease_until=None, state="done")
    remember(timedelta(seconds=-1))
    assert handed(project, labeler) == new


def test_a_priority_that_held_nothing_is_passed_over_for_a_while(long_queue, project, labeler):
    place(project, priority=-1, requires=["de"])
    later = [place(project, priority=1) for _ in range(3)]
    first = handed(project, labeler)
    remember(timedelta(minutes=9))
    new = place(project, priority=-1)
    Slot.objects.filter(comparison_id=first).update(state="closed", labeler=None, lease_until=None, claim_token=None)
    second = handed(project, labeler)
    assert {first, second} < set(later)
    Slot.objects.filter(comparison_id=second).update(state="closed", labeler=None, lease_until=None, claim_token=None)
    remember(timedelta(seconds=-1))
    assert handed(project, labeler) == new


@pytest.mark.parametrize("change", ["new", "batch", "bulk", "tags", "overlap"])
def test_who_found_nothing_is_asked_to_look_again_where_there_may_be_something(
    long_queue, project, labeler, change, django_capture_on_commit_callbacks
):
    done = make_comparison(project)
    claim_and_answer(project, labeler)
    there = place(project, requires=["de"])
    assert handed(project, labeler) is None
    remember(timedelta(minutes=9))
    assert handed(project, labeler) is None
    with django_capture_on_commit_callbacks(execute=True):
        wanted = CHANGES[change](project, there, done)
    assert Membership.objects.get().passed_until is None
    assert handed(project, labeler) == wanted


def new_item(project, there, done):
    prompt = make_prompt(project)
    texts = [make_completion(prompt) for _ in range(2)]
    return create_comparison(project=project, prompt=prompt, completions=texts, origin="import").pk


def other_tags(project, there, done):
    set_tags(member=Membership.objects.get(), tags=["de"])
    return there


def other_priority_of_its_batch(project, there, done):
    batch = create_batch(project=project, name="first")
    assign_to_batch([Comparison.objects.get(pk=done.pk)], batch)
    set_priority(batch, -1)


def bulk_change(project, there, done):
    order = {"action": "tags", "tags": []}
    order_change(
        project=project, by=make_user(), picked={"ids": [there]}, order=order, expected=1, submission=str(uuid4())
    )
    return there


def more_places(project, there, done):
    Project.objects.update(overlap=3)
    Comparison.objects.filter(pk=there).update(requires=[])
    extend_open_comparisons(project=project)
    return there


CHANGES = {
    "new": new_item, "batch": other_priority_of_its_batch, "bulk": bulk_change, "tags": other_tags,
    "overlap": more_places,
}  # fmt: skip


def test_their_place_moves_to_what_was_found_and_they_go_round_all_the_same(long_queue, project, labeler):
    keys = {place(project, shuffle_key=key): key for key in (LEAST, -5, 0, 7)}
    Membership.objects.update(shuffle_start=-1)
    assert keys[handed(project, labeler)] == 0
    assert Membership.objects.get().shuffle_start == 0
    assert [keys[pk] for pk in all_that_is_handed(project, labeler)] == [0, 7, LEAST, -5]


def test_who_has_a_break_or_waits_for_the_quiz_has_looked_for_nothing(long_queue, project, labeler):
    place(project)
    Membership.objects.update(paused_at=timezone.now())
    assert handed(project, labeler) is None
    assert Membership.objects.get().passed_until is None


def test_in_a_short_queue_an_item_is_there_at_once(project, labeler):
    place(project, requires=["de"])
    assert handed(project, labeler) is None
    assert Membership.objects.get().passed_until is None
    new = place(project)
    assert handed(project, labeler) == new
