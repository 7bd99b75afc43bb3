"""To whom the claim hands what: tags, caps, pauses, priorities, an order of one's own, and what is reserved."""

from datetime import timedelta

import pytest
from django.db.models import F
from django.utils import timezone

from labelapp.labeling.actions import undo_last
from labelapp.labeling.quality.reask import reask
from labelapp.labeling.quality.repeats import plan_repeat
from labelapp.labeling.queue import claim_slot
from labelapp.labeling.skips import skip_item
from labelapp.models import Membership, Project, Skip, Slot, WorkDay
from tests.factories import make_comparison
from tests.labeling.conftest import answer, claim_and_answer, shown
from tests.labeling.test_queue import expire


def reserve(project, labeler, **fields):
    """A slot for one person of a comparison that nobody else is asked about."""
    comparison = make_comparison(project, slots=0)
    return Slot.objects.create(
        comparison=comparison, project=project, number=0, shuffle_key=0, display_order=[0, 1],
        **{"purpose": "gold", "reserved_for": labeler} | fields,
    )  # fmt: skip


def all_that_is_handed(project, labeler):
    """The comparisons that this person judges until nothing is left, in their order."""
    handed = []
    while slot := claim_slot(project=project, labeler=labeler):
        answer(slot, labeler)
        handed.append(slot.comparison_id)
    return handed


# What somebody has seen


@pytest.mark.parametrize("seen", ["judged", "late", "skipped", "undone"])
def test_nobody_gets_again_what_they_have_seen(project, labeler, join, seen):
    make_comparison(project, overlap=3)
    slot = claim_slot(project=project, labeler=labeler)
    if seen == "late":
        expire(slot)
        claim_slot(project=project, labeler=join())
    if seen == "skipped":
        skip_item(project=project, claim=shown(slot), labeler=labeler, reason="unclear")
    else:
        answer(slot, labeler)
    if seen == "undone":
        back = undo_last(project=project, labeler=labeler)
        skip_item(project=project, claim=shown(back), labeler=labeler, reason="other")
    assert claim_slot(project=project, labeler=labeler) is None
    assert claim_slot(project=project, labeler=join())


def test_nor_while_it_is_in_hand(project, labeler):
    make_comparison(project, overlap=3)
    slot = claim_slot(project=project, labeler=labeler)
    assert claim_slot(project=project, labeler=labeler, holding=[slot.pk]) is None


def test_except_swapped_repeats_and_what_is_asked_again(project, labeler):
    first = make_comparison(project)
    judgment = claim_and_answer(project, labeler)
    repeat = plan_repeat(judgment)
    Slot.objects.filter(pk=repeat.pk).update(not_before=timezone.now())
    assert claim_slot(project=project, labeler=labeler).comparison.repeats == first
    claim_and_answer(project, labeler)
    reask(judgments=[judgment], note="")
    assert claim_slot(project=project, labeler=labeler).comparison == first
    claim_and_answer(project, labeler)
    assert claim_slot(project=project, labeler=labeler) is None


def test_a_skip_counts_and_says_why(project, labeler):
    make_comparison(project)
    slot = claim_slot(project=project, labeler=labeler)
    skip_item(project=project, claim=shown(slot), labeler=labeler, reason="language", comment=" Basque? ")
    skip = Skip.objects.get()
    assert (skip.reason, skip.comment) == ("language", "Basque?")
    assert (skip.labeler, skip.comparison) == (labeler, slot.comparison)
    assert (WorkDay.objects.get().skipped, WorkDay.objects.get().judged) == (1, 0)


# Who may have it


@pytest.mark.parametrize(
    ("tags", "handed"), [([], False), (["de"], False), (["de", "law"], True), (["law", "it", "de"], True)]
)
def test_an_item_goes_to_people_with_all_the_tags_that_it_requires(project, labeler, tags, handed):
    make_comparison(project)
    Slot.objects.update(requires=["de", "law"])
    Membership.objects.update(tags=tags)
    assert bool(claim_slot(project=project, labeler=labeler)) is handed


def test_a_daily_cap_counts_what_is_in_hand(project, labeler):
    Project.objects.update(daily_cap=2)
    for _ in range(4):
        make_comparison(project)
    claim_and_answer(project, labeler)
    second = claim_slot(project=project, labeler=labeler)
    assert claim_slot(project=project, labeler=labeler, holding=[second.pk]) is None
    assert claim_slot(project=project, labeler=labeler).pk == second.pk
    answer(second, labeler)
    assert claim_slot(project=project, labeler=labeler) is None

    WorkDay.objects.update(day=F("day") - timedelta(days=1))
    assert claim_slot(project=project, labeler=labeler)


def test_a_persons_own_cap_counts_instead_of_the_projects(project, labeler, join):
    Project.objects.update(daily_cap=1)
    Membership.objects.filter(user=labeler).update(daily_cap=2)
    for _ in range(3):
        make_comparison(project)
    assert len(all_that_is_handed(project, labeler)) == 2
    assert len(all_that_is_handed(project, join())) == 1


def test_an_undo_gives_the_cap_back(project, labeler):
    Project.objects.update(daily_cap=1)
    make_comparison(project)
    claim_and_answer(project, labeler)
    back = undo_last(project=project, labeler=labeler)
    assert claim_slot(project=project, labeler=labeler).pk == back.pk


@pytest.mark.parametrize("purpose", ["", "gold", "quiz", "reask"])
def test_whoever_is_paused_gets_neither_work_nor_what_is_reserved(project, labeler, purpose):
    reserve(project, labeler, purpose=purpose, **({} if purpose else {"reserved_for": None}))
    Membership.objects.update(paused_at=timezone.now())
    assert claim_slot(project=project, labeler=labeler) is None
    Membership.objects.update(paused_at=None)
    assert claim_slot(project=project, labeler=labeler)


def test_whoever_has_not_passed_the_quiz_gets_the_quiz_alone(project, labeler):
    Project.objects.update(quiz_items=1, quiz_right=1)
    make_comparison(project)
    reserve(project, labeler, purpose="gold")
    assert claim_slot(project=project, labeler=labeler) is None
    quiz = reserve(project, labeler, purpose="quiz")
    assert claim_slot(project=project, labeler=labeler).pk == quiz.pk


def test_somebody_who_is_no_member_gets_nothing(project, labeler):
    make_comparison(project)
    Membership.objects.all().delete()
    assert claim_slot(project=project, labeler=labeler) is None


# In which order


def test_everybody_reads_the_same_items_from_a_place_of_their_own_and_round(project, labeler, join):
    keys = {make_comparison(project, overlap=2).pk: key for key in (-(2**31), -5, 0, 7, 2**31 - 1)}
    for comparison, key in keys.items():
        Slot.objects.filter(comparison=comparison).update(shuffle_key=key)
    Membership.objects.filter(user=labeler).update(shuffle_start=0)
    assert [keys[pk] for pk in all_that_is_handed(project, labeler)] == [0, 7, 2**31 - 1, -(2**31), -5]
    other = join()
    Membership.objects.filter(user=other).update(shuffle_start=8)
    assert [keys[pk] for pk in all_that_is_handed(project, other)] == [2**31 - 1, -(2**31), -5, 0, 7]


def test_the_first_priority_comes_first_wherever_a_person_starts(project, labeler):
    urgent, usual, later = (make_comparison(project) for _ in range(3))
    for comparison, priority, key in ((urgent, -1, -100), (usual, 0, 50), (later, 1, 50)):
        Slot.objects.filter(comparison=comparison).update(priority=priority, shuffle_key=key)
    Membership.objects.update(shuffle_start=0)
    assert all_that_is_handed(project, labeler) == [urgent.pk, usual.pk, later.pk]


def test_a_priority_that_a_person_may_not_have_does_not_hide_the_next(project, labeler):
    german, usual = make_comparison(project), make_comparison(project)
    Slot.objects.filter(comparison=german).update(priority=-1, requires=["de"])
    assert claim_slot(project=project, labeler=labeler).comparison == usual


# What is reserved


def test_what_is_reserved_comes_before_work_and_to_nobody_else(project, labeler, join):
    work = make_comparison(project, overlap=2)
    gold = reserve(project, labeler)
    assert claim_slot(project=project, labeler=join()).comparison == work
    assert claim_slot(project=project, labeler=labeler).pk == gold.pk


@pytest.mark.parametrize(
    ("due", "handed"),
    [
        ({}, True),
        ({"not_before": timedelta(hours=1)}, False),
        ({"not_before": timedelta(hours=-1)}, True),
        ({"after_judged": 4}, False),
        ({"after_judged": 3}, True),
        ({"not_before": timedelta(hours=1), "after_judged": 3}, True),
        ({"not_before": timedelta(hours=-1), "after_judged": 99}, True),
        ({"not_before": timedelta(hours=1), "after_judged": 99}, False),
    ],
)
def test_what_is_reserved_is_due_at_a_time_or_after_so_many_judgments(project, labeler, due, handed):
    due = {name: timezone.now() + value if name == "not_before" else value for name, value in due.items()}
    WorkDay.objects.create(project=project, labeler=labeler, day="2026-01-01", judged=3)
    reserve(project, labeler, purpose="repeat", **due)
    assert bool(claim_slot(project=project, labeler=labeler)) is handed


def test_a_reserved_lease_that_ran_out_stays_its_labelers(project, labeler, join):
    slot = reserve(project, labeler)
    claim_slot(project=project, labeler=labeler)
    expire(slot)
    assert claim_slot(project=project, labeler=join()) is None
    assert claim_slot(project=project, labeler=labeler).pk == slot.pk


def test_a_cap_holds_for_what_is_reserved_too_but_not_for_the_quiz(project, labeler):
    Project.objects.update(daily_cap=0, quiz_items=1, quiz_right=1)
    reserve(project, labeler)
    assert claim_slot(project=project, labeler=labeler) is None
    assert reserve(project, labeler, purpose="quiz").pk == claim_slot(project=project, labeler=labeler).pk
