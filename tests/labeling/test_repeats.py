"""Swapped repeats: the same item, the other way round, to the same person."""

from datetime import timedelta

import pytest
from django.utils import timezone

from labelapp.labeling.actions import undo_last
from labelapp.labeling.quality.hooks import drawn
from labelapp.labeling.quality.repeats import DUE_AFTER, DUE_AFTER_JUDGED, plan_repeat, self_consistency
from labelapp.labeling.queue import claim_slot
from labelapp.models import Comparison, Judgment, Project, Slot, WorkDay
from tests.factories import make_comparison, make_project
from tests.labeling.conftest import answer, claim_and_answer


def due(slot):
    Slot.objects.filter(pk=slot.pk).update(not_before=timezone.now() - timedelta(seconds=1))


@pytest.fixture
def judged(project, labeler):
    make_comparison(project)
    return claim_and_answer(project, labeler, strength=2)


def test_a_repeat_shows_the_same_positions_in_the_reverse_order_to_the_same_person(project, labeler, judged, join):
    slot = plan_repeat(judged)

    repeat = slot.comparison
    assert (repeat.origin, repeat.repeats, repeat.prompt) == ("swapped", judged.comparison, judged.comparison.prompt)
    assert repeat.ordered_completions() == judged.comparison.ordered_completions()
    assert repeat.content_hash != judged.comparison.content_hash
    assert (slot.purpose, slot.reserved_for, slot.state) == ("repeat", labeler, "open")
    assert slot.display_order == judged.display_order[::-1]

    due(slot)
    assert claim_slot(project=project, labeler=join()) is None
    again = claim_slot(project=project, labeler=labeler)
    assert again.pk == slot.pk


def test_a_repeat_is_due_after_a_day(project, labeler, judged):
    slot = plan_repeat(judged)
    assert timedelta(0) <= slot.not_before - timezone.now() <= DUE_AFTER
    assert claim_slot(project=project, labeler=labeler) is None
    due(slot)
    assert claim_slot(project=project, labeler=labeler).pk == slot.pk


def test_or_it_is_due_fifty_items_later(project, labeler, judged):
    slot = plan_repeat(judged)
    assert slot.after_judged == 1 + DUE_AFTER_JUDGED
    WorkDay.objects.update(judged=DUE_AFTER_JUDGED)
    assert claim_slot(project=project, labeler=labeler) is None
    WorkDay.objects.update(judged=DUE_AFTER_JUDGED + 1)
    assert claim_slot(project=project, labeler=labeler).pk == slot.pk


def test_two_people_share_one_repeat_with_a_place_each(project, labeler, join):
    make_comparison(project, overlap=2)
    mine, theirs = claim_and_answer(project, labeler), claim_and_answer(project, join())
    first, second = plan_repeat(mine), plan_repeat(theirs)
    assert first.comparison == second.comparison
    assert first.reserved_for != second.reserved_for
    assert first.display_order == second.display_order[::-1]


def test_planning_twice_reserves_one_place(judged):
    assert plan_repeat(judged) == plan_repeat(judged)
    assert Slot.objects.filter(purpose="repeat").count() == 1


def test_an_undone_answer_is_not_repeated_and_the_next_one_is(project, labeler, judged):
    slot = plan_repeat(judged)
    back = undo_last(project=project, labeler=labeler)
    due(slot)
    slot.refresh_from_db()
    assert slot.state == "closed"

    again = answer(back, labeler, strength=-1)
    assert plan_repeat(again) == slot
    slot.refresh_from_db()
    assert (slot.state, slot.not_before > timezone.now()) == ("open", True)


def test_the_share_decides_by_a_draw_that_an_undo_does_not_repeat(labeler):
    project = make_project("repeating", labeler=labeler)
    Project.objects.filter(pk=project.pk).update(repeat_share=0.5)
    project.refresh_from_db()
    for _ in range(12):
        make_comparison(project)
        claim_and_answer(project, labeler, project=project, strength=1)

    judged = Judgment.objects.all()
    wanted = {row.comparison_id for row in judged if drawn("repeat", row) < 0.5}
    planned = set(Comparison.objects.filter(origin="swapped").values_list("repeats", flat=True))
    assert planned == wanted
    assert {slot.reserved_for for slot in Slot.objects.filter(purpose="repeat")} <= {labeler}
    assert 0 < sum(drawn("repeat", row) < 0.5 for row in judged) < 12


def test_a_repeat_is_not_repeated_and_brings_no_gold(labeler):
    project = make_project("repeating", labeler=labeler)
    Project.objects.filter(pk=project.pk).update(repeat_share=0.5, gold_share=0.5)
    project.refresh_from_db()
    make_comparison(project)
    slot = plan_repeat(claim_and_answer(project, labeler, strength=1))
    due(slot)
    claim_and_answer(project, labeler, project=project, strength=1)
    assert Comparison.objects.filter(origin="swapped").count() == 1
    assert Slot.objects.count() == 2


def test_self_consistency_is_the_share_of_repeats_with_the_same_winner(project, labeler, join):
    other = join()
    for person, second in ((labeler, 3), (labeler, -1), (other, 3)):
        make_comparison(project)
        slot = claim_slot(project=project, labeler=person)
        slot.display_order = [0, 1]
        first = answer(slot, person, strength=-1)  # for position 0
        due(plan_repeat(first))
        answer(claim_slot(project=project, labeler=person), person, strength=second)  # 3: for position 0, on the right

    assert self_consistency(project, labeler) == (1, 2)
    assert self_consistency(project) == (2, 3)
    undo_last(project=project, labeler=other)
    assert self_consistency(project) == (1, 2)
