"""Adaptive overlap: a disagreement asks one more."""

from uuid import uuid4

import pytest

from labelapp.labeling.actions import protocol_of, revise, undo_last
from labelapp.labeling.answers import Answer
from labelapp.labeling.quality.gold import make_gold
from labelapp.labeling.quality.places import next_order
from labelapp.labeling.queue import claim_slot
from labelapp.models import Project, Slot
from tests.factories import add_member, make_comparison, make_project, make_user
from tests.labeling.conftest import answer, claim_and_answer, shown


@pytest.fixture
def adaptive(labeler):
    project = make_project("adaptive", overlap=2, labeler=labeler)
    Project.objects.filter(pk=project.pk).update(max_overlap=4)
    project.refresh_from_db()
    return project


def left(project, person, strength=1):
    """Judge the next item for position 0 (strength 1 or more), for position 1 (below zero), or a tie."""
    slot = claim_slot(project=project, labeler=person)
    return answer(slot, person, project=project, strength=strength * (-1 if slot.display_order == [0, 1] else 1))


@pytest.fixture
def people(adaptive):
    def people(count):
        made = [make_user() for _ in range(count)]
        for person in made:
            add_member(adaptive, person, "labeler")
        return made

    return people


def test_people_who_agree_are_joined_by_nobody(adaptive, people):
    comparison = make_comparison(adaptive)
    one, two = people(2)
    left(adaptive, one, 1)
    left(adaptive, two, 3)
    assert comparison.slots.count() == 2


@pytest.mark.parametrize("second", [-1, 0])
def test_a_disagreement_adds_one_place_in_the_next_order_and_of_the_same_priority(adaptive, people, second):
    comparison = make_comparison(adaptive)
    comparison.slots.update(priority=7)
    one, two, three = people(3)
    left(adaptive, one, 1)
    left(adaptive, two, second)

    added = comparison.slots.get(number=2)
    assert (added.state, added.priority, added.purpose, sorted(added.display_order)) == ("open", 7, "", [0, 1])
    assert claim_slot(project=adaptive, labeler=one) is None
    assert claim_slot(project=adaptive, labeler=three).pk == added.pk


def test_places_are_added_one_by_one_up_to_the_maximum(adaptive, people):
    comparison = make_comparison(adaptive)
    for number, person in enumerate(people(4)):
        left(adaptive, person, 1 if number % 2 else -1)
        assert comparison.slots.count() == min(4, max(2, number + 2))
    orders = [slot.display_order for slot in comparison.slots.order_by("number")]
    assert orders[2] == orders[3][::-1]  # counter-balanced


def test_nothing_is_added_while_somebody_is_still_to_answer(adaptive, people):
    comparison = make_comparison(adaptive, overlap=3)
    one, two, three = people(3)
    left(adaptive, one, 1)
    left(adaptive, two, -1)
    assert comparison.slots.count() == 3
    left(adaptive, three, 1)
    assert comparison.slots.count() == 4


def test_without_a_maximum_nothing_is_added(adaptive, people):
    Project.objects.update(max_overlap=None)
    adaptive.refresh_from_db()
    comparison = make_comparison(adaptive)
    for person, strength in zip(people(2), (1, -1), strict=True):
        left(adaptive, person, strength)
    assert comparison.slots.count() == 2


def test_answers_where_a_labeler_was_checked_are_no_votes(adaptive, people):
    comparison = make_comparison(adaptive)
    one, three = people(2)
    left(adaptive, one, 1)
    make_gold(comparison, gold=[[0], [1]])
    Slot.objects.create(
        comparison=comparison, project=adaptive, number=9, shuffle_key=0, display_order=[0, 1], purpose="gold",
        reserved_for=three,
    )  # fmt: skip
    answer(claim_slot(project=adaptive, labeler=three), three, project=adaptive, strength=3)
    assert comparison.slots.exclude(purpose="gold").count() == 2


def test_a_revision_may_be_what_disagrees(adaptive, people):
    comparison = make_comparison(adaptive)
    one, two = people(2)
    left(adaptive, one, 1)
    last = left(adaptive, two, 1)
    order = last.display_order
    revised = Answer(strength=1 if order == [0, 1] else -1)
    revise(project=adaptive, labeler=two, judgment_id=last.pk, submission_id=uuid4(), answer=revised)
    assert comparison.slots.count() == 3


def test_an_undone_answer_does_not_disagree(adaptive, people):
    comparison = make_comparison(adaptive)
    one, two = people(2)
    left(adaptive, one, 1)
    left(adaptive, two, 1)
    undo_last(project=adaptive, labeler=two)
    assert comparison.slots.count() == 2


def test_orders_go_on_where_the_others_end():
    orders = []
    for _ in range(9):
        orders.append(next_order(orders, size=3))
    for start in (0, 3, 6):
        assert all(sorted(place) == [0, 1, 2] for place in zip(*orders[start : start + 3], strict=True))
    assert next_order([], size=0) == []


def test_where_nothing_is_drawn_the_rules_cost_no_statement(project, labeler, django_assert_num_queries):
    make_comparison(project)
    slot = claim_slot(project=project, labeler=labeler)
    claim = shown(slot)
    protocol_of(claim.protocol_id)
    with django_assert_num_queries(1):
        answer(slot, labeler, project=project, claim=claim, strength=1)


def test_judging_without_a_project_sets_nothing_off(adaptive, people):
    comparison = make_comparison(adaptive)
    for person, strength in zip(people(2), (1, 3), strict=True):
        claim_and_answer(adaptive, person, strength=strength)
    assert comparison.slots.count() == 2
