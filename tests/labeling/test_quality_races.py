"""Real threads with connections of their own: whoever comes second sees what the first one did."""

from concurrent.futures import ThreadPoolExecutor
from threading import Barrier
from uuid import uuid4

import pytest
from django.db import connection, transaction

from labelapp.labeling.actions import replace_judgment, revise
from labelapp.labeling.answers import Answer, body_hash
from labelapp.labeling.quality.gold import hand_gold, make_gold
from labelapp.labeling.quality.quiz import begin_quiz, quiz_state
from labelapp.labeling.quality.reask import reask, return_to_labeler
from labelapp.labeling.quality.repeats import plan_repeat
from labelapp.labeling.queue import claim_slot, extend_lease
from labelapp.labeling.refusals import CannotAskAgain, Superseded
from labelapp.models import Comparison, Judgment, Membership, Project, Slot
from tests.factories import add_member, make_comparison, make_project, make_user
from tests.labeling.conftest import answer, claim_and_answer, shown
from tests.labeling.test_gold import for_position, gold
from tests.labeling.test_queue import expire, somebody_waits
from tests.servers import wait_until

pytestmark = [pytest.mark.services, pytest.mark.django_db(transaction=True)]


def at_once(*calls):
    """Run the calls in threads that start together; their results, or what they refused."""
    gate = Barrier(len(calls))

    def run(call):
        try:
            gate.wait(30)
            return call()
        except (CannotAskAgain, Superseded) as refusal:
            return refusal
        finally:
            connection.close()

    with ThreadPoolExecutor(len(calls)) as crowd:
        return list(crowd.map(run, calls))


def while_it_is_open(first, second):
    """Run `second` in a thread while the transaction of `first` is open, and commit once it waits."""
    with ThreadPoolExecutor(1) as thread:
        with transaction.atomic():
            done = first()
            waiting = thread.submit(lambda: at_once(second)[0])
            wait_until(somebody_waits, what="the second one at a lock of the first")
        return done, waiting.result()


def two_people(project):
    people = [make_user(), make_user()]
    for person in people:
        add_member(project, person, "labeler")
    return people


def check_places(project):
    """A place that is done has one standing answer of its labeler, and nobody answered a comparison twice."""
    for slot in Slot.objects.filter(project=project, state="done"):
        assert slot.judgments.standing().filter(labeler=slot.labeler, surplus=False).count() == 1
    standing = list(Judgment.objects.standing().values_list("comparison", "labeler"))
    assert len(standing) == len(set(standing))


def test_threads_that_claim_the_last_slots_get_each_once(project):
    for _ in range(3):
        make_comparison(project, overlap=2)
    people = [make_user() for _ in range(8)]
    for person in people:
        add_member(project, person, "labeler")

    claimed = at_once(*[lambda person=person: claim_slot(project=project, labeler=person) for person in people])

    got = [slot.pk for slot in claimed if slot]
    assert len(got) == len(set(got)) == Slot.objects.filter(state="leased").count()
    # Whoever found a row locked by somebody else passed it by; nothing stays behind for those who look again.
    late = [person for person, slot in zip(people, claimed, strict=True) if slot is None]
    got += [slot.pk for person in late if (slot := claim_slot(project=project, labeler=person))]
    assert len(got) == len(set(got)) == 6
    for slot in Slot.objects.all():
        answer(slot, slot.labeler)
    check_places(project)


@pytest.mark.parametrize("turn", range(3))
def test_a_lease_that_runs_out_during_the_submit_loses_nothing(project, labeler, join, turn):
    make_comparison(project)
    slot, other = claim_slot(project=project, labeler=labeler), join()
    claim, beat = shown(slot), {"slot_id": slot.pk, "labeler": labeler, "claim_token": slot.claim_token}
    expire(slot)

    mine, taken, _ = at_once(
        lambda: answer(slot, labeler, claim=claim, strength=1),
        lambda: claim_slot(project=project, labeler=other),
        lambda: extend_lease(**beat),
    )

    assert mine.surplus is (taken is not None)  # in time, or beside the answer of whoever took it
    if taken:
        answer(taken, other)
    assert Slot.objects.get().state == "done"
    assert Judgment.objects.standing().filter(surplus=False).count() == 1
    check_places(project)


def test_a_heartbeat_that_comes_during_the_submit_leaves_the_slot_done(project, labeler):
    make_comparison(project)
    slot = claim_slot(project=project, labeler=labeler)
    claim, beat = shown(slot), {"slot_id": slot.pk, "labeler": labeler, "claim_token": slot.claim_token}
    _, held = while_it_is_open(lambda: answer(slot, labeler, claim=claim, strength=1), lambda: extend_lease(**beat))
    assert held is False
    assert Slot.objects.get().state == "done"


def test_two_people_who_disagree_at_the_same_moment_are_joined_by_one_more(labeler):
    project = make_project("adaptive", overlap=2)
    Project.objects.update(max_overlap=4)
    project.refresh_from_db()
    comparison = make_comparison(project)
    one, two = two_people(project)
    slots = [claim_slot(project=project, labeler=person) for person in (one, two)]
    claims = [shown(slot) for slot in slots]

    def say(number, person, position):
        said = for_position(slots[number], position)
        return lambda: answer(slots[number], person, project=project, claim=claims[number], **said)

    while_it_is_open(say(0, one, 0), say(1, two, 1))

    assert comparison.slots.count() == 3
    assert comparison.slots.get(number=2).state == "open"


def test_two_people_whose_answers_are_repeated_at_once_share_the_repeat(labeler):
    project = make_project("repeating", overlap=2)
    make_comparison(project)
    judgments = [claim_and_answer(project, person) for person in two_people(project)]
    first, second = at_once(*[lambda row=row: in_transaction(plan_repeat, row) for row in judgments])
    assert first.comparison_id == second.comparison_id
    assert {first.number, second.number} == {0, 1}
    assert Comparison.objects.filter(origin="swapped").count() == 1


def in_transaction(call, *args):
    with transaction.atomic():
        return call(*args)


def test_gold_that_two_people_get_at_once_has_a_place_for_each(project):
    gold(project)
    people = two_people(project)
    handed = at_once(*[lambda person=person: in_transaction(hand_gold, project, person.pk) for person in people])
    handed = [slot for slot in handed if slot]  # what somebody else has locked is passed over
    assert 1 <= len(handed) == len({slot.number for slot in handed})


def test_marking_gold_while_the_item_is_answered_waits_for_the_answer(project, labeler):
    comparison = make_comparison(project, overlap=2)
    slot = claim_slot(project=project, labeler=labeler)
    claim = shown(slot)
    expire(slot)
    Slot.objects.filter(pk=slot.pk).update(state="open", labeler=None, lease_until=None, claim_token=None)
    while_it_is_open(
        lambda: answer(slot, labeler, claim=claim, strength=1), lambda: make_gold(comparison, gold=[[0], [1]])
    )
    assert list(comparison.slots.order_by("number").values_list("state", flat=True)) == ["done", "closed"]


def test_two_tabs_begin_one_quiz(project, labeler):
    Project.objects.update(quiz_items=2, quiz_right=1)
    project.refresh_from_db()
    for _ in range(5):
        gold(project)
    begun = at_once(*[lambda: begin_quiz(project=project, labeler=labeler)] * 4)
    assert sorted(begun) == [False, False, False, True]
    assert Slot.objects.filter(purpose="quiz").count() == 2


def test_the_last_two_answers_of_a_quiz_from_two_tabs_let_the_labeler_in(project, labeler):
    Project.objects.update(quiz_items=2, quiz_right=2)
    project.refresh_from_db()
    for _ in range(2):
        gold(project)
    begin_quiz(project=project, labeler=labeler)
    one = claim_slot(project=project, labeler=labeler)
    two = claim_slot(project=project, labeler=labeler, holding=[one.pk])
    claims = [shown(one), shown(two)]

    def say(slot, claim):
        return lambda: answer(slot, labeler, claim=claim, project=project, **for_position(slot, 0))

    while_it_is_open(say(one, claims[0]), say(two, claims[1]))
    assert quiz_state(Membership.objects.get(user=labeler)).state == "passed"
    assert Membership.objects.get(user=labeler).qualified_at


@pytest.mark.parametrize("turn", range(3))
def test_a_revision_during_a_return_leaves_one_answer_and_one_way_on(project, labeler, turn):
    make_comparison(project)
    first = claim_and_answer(project, labeler, strength=1)

    revised, returned = at_once(
        lambda: revise(
            project=project, labeler=labeler, judgment_id=first.pk, submission_id=uuid4(), answer=Answer(strength=2)
        ),
        lambda: return_to_labeler(first, "Look again."),
    )

    assert Judgment.objects.standing().get() == revised
    if isinstance(returned, CannotAskAgain):
        assert Slot.objects.get().state == "done"
    else:
        again = claim_and_answer(project, labeler, strength=-1)
        assert again.replaces == revised
    check_places(project)


def test_an_answer_to_what_was_returned_replaces_the_correction_that_was_quicker(project, labeler):
    make_comparison(project)
    first = claim_and_answer(project, labeler, strength=1)
    return_to_labeler(first, "Look again.")
    slot = claim_slot(project=project, labeler=labeler)
    claim, body = shown(slot), body_hash(Answer(strength=3), corrects=first.pk)

    corrected, again = while_it_is_open(
        lambda: replace_judgment(
            first, labeler=labeler, submission_id=uuid4(), body=body, answer=Answer(strength=3)
        ),
        lambda: answer(slot, labeler, claim=claim, strength=-2),
    )

    assert again.replaces == corrected
    assert Judgment.objects.standing().get() == again
    check_places(project)


def test_two_admins_who_ask_the_same_again_ask_once(project, labeler):
    for _ in range(3):
        make_comparison(project)
        claim_and_answer(project, labeler)
    asked = at_once(*[lambda: reask(judgments=Judgment.objects.all(), note="Guidelines v2.")] * 2)
    assert sum(asked) == 3
    assert Slot.objects.filter(state="open", purpose="reask").count() == 3
