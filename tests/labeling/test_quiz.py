"""The quiz before the first real item."""

import pytest

from labelapp.labeling.actions import undo_last
from labelapp.labeling.claims import claim_of
from labelapp.labeling.desk import open_desk
from labelapp.labeling.quality.gold import gold_accuracy
from labelapp.labeling.quality.quiz import begin_quiz, let_in, let_try_again, quiz_lacks_gold, quiz_state
from labelapp.labeling.queue import claim_slot
from labelapp.labeling.refusals import NoQuiz, NotAnAnswer
from labelapp.labeling.skips import skip_item
from labelapp.models import Membership, Project, Slot
from tests.factories import add_member, make_comparison, make_project, make_user
from tests.labeling.conftest import answer
from tests.labeling.test_gold import for_position, gold


@pytest.fixture
def quizzed(labeler):
    project = make_project("quizzed", labeler=labeler)
    Project.objects.filter(pk=project.pk).update(quiz_items=3, quiz_right=2)
    project.refresh_from_db()
    make_comparison(project)
    return project


@pytest.fixture
def member(quizzed, labeler):
    return lambda: Membership.objects.select_related("project", "user").get(project=quizzed, user=labeler)


def next_item(project, labeler):
    item = open_desk(project=project, labeler=labeler).item
    return item and item.slot


def take(project, labeler, *right):
    """Answer items of the quiz, right or wrong."""
    for well in right:
        slot = next_item(project, labeler)
        assert slot.purpose == "quiz"
        claim = claim_of(slot, protocol_id=project.protocol_versions.get().pk)
        answer(slot, labeler, project=project, claim=claim, **for_position(slot, 0 if well else 1))


def test_a_new_labeler_gets_the_quiz_before_any_work(quizzed, labeler, member):
    for _ in range(4):
        gold(quizzed)
    assert quiz_state(member()) == ("not_started", 0, 0, 0, 0)
    assert next_item(quizzed, labeler).purpose == "quiz"
    assert quiz_state(member()) == ("running", 0, 3, 0, 2)
    take(quizzed, labeler, True, False)
    assert quiz_state(member()) == ("running", 2, 3, 1, 2)
    assert member().qualified_at is None

    take(quizzed, labeler, True)
    assert quiz_state(member()) == ("passed", 3, 3, 2, 2)
    assert member().qualified_at is not None
    assert next_item(quizzed, labeler).purpose == ""
    assert gold_accuracy(quizzed, labeler) == (2, 3)


def test_whoever_fails_waits_for_an_admin(quizzed, labeler, member):
    for _ in range(4):
        gold(quizzed)
    take(quizzed, labeler, True, False, False)
    assert quiz_state(member()) == ("failed", 3, 3, 1, 2)
    desk = open_desk(project=quizzed, labeler=labeler)
    assert desk.item is None
    assert desk.empty == {"why": "quiz", "right": 1, "needed": 2}
    assert Slot.objects.filter(purpose="quiz").count() == 3

    let_in(member())
    assert quiz_state(member()).state == "passed"
    assert next_item(quizzed, labeler).purpose == ""


def test_an_admin_may_let_them_try_again_with_gold_that_they_have_not_seen(quizzed, labeler, member):
    for _ in range(5):
        gold(quizzed)
    take(quizzed, labeler, False, False, False)
    let_try_again(member())
    assert quiz_state(member()) == ("not_started", 0, 0, 0, 0)
    take(quizzed, labeler, True, True)
    assert quiz_state(member()).state == "passed"
    assert gold_accuracy(quizzed, labeler) == (2, 5)
    with pytest.raises(NoQuiz, match="works here already"):
        let_try_again(member())


def test_nobody_tries_again_what_they_have_seen(quizzed, labeler, member):
    gold(quizzed)
    take(quizzed, labeler, False)
    with pytest.raises(NoQuiz, match="has seen all gold there is"):
        let_try_again(member())
    assert quiz_state(member()).state == "failed"


def test_the_quiz_is_as_long_as_there_is_gold(quizzed, labeler, member):
    gold(quizzed)
    take(quizzed, labeler, True)
    assert quiz_state(member()) == ("passed", 1, 1, 1, 1)


def test_without_gold_people_work(quizzed, labeler, member):
    assert quiz_lacks_gold(quizzed)
    assert next_item(quizzed, labeler).purpose == ""
    assert member().qualified_at
    gold(quizzed)
    assert not quiz_lacks_gold(quizzed)


@pytest.mark.parametrize("role", ["reviewer", "admin"])
def test_only_labelers_are_asked(quizzed, role):
    gold(quizzed)
    person = make_user()
    membership = add_member(quizzed, person, role)
    assert next_item(quizzed, person).purpose == ""
    assert quiz_state(membership).state == "passed"


def test_whoever_is_paused_is_not_asked(quizzed, labeler):
    gold(quizzed)
    Membership.objects.update(paused_at="2026-01-01T00:00Z")
    assert next_item(quizzed, labeler) is None
    assert not Slot.objects.filter(purpose="quiz").exists()


def test_an_item_of_the_quiz_cannot_be_skipped_and_its_first_answer_counts(quizzed, labeler, member):
    gold(quizzed, explanation="Now everybody knows.")
    slot = next_item(quizzed, labeler)
    claim = claim_of(slot, protocol_id=quizzed.protocol_versions.get().pk)
    with pytest.raises(NotAnAnswer, match="cannot be skipped"):
        skip_item(project=quizzed, claim=claim, labeler=labeler, reason="unsure")
    take(quizzed, labeler, False)
    back = undo_last(project=quizzed, labeler=labeler)
    answer(back, labeler, project=quizzed, **for_position(back, 0))
    assert quiz_state(member()).state == "failed"


def test_beginning_twice_makes_one_quiz(quizzed, labeler):
    for _ in range(4):
        gold(quizzed)
    assert begin_quiz(project=quizzed, labeler=labeler)
    assert not begin_quiz(project=quizzed, labeler=labeler)
    assert Slot.objects.filter(purpose="quiz").count() == 3


def test_a_quiz_costs_those_who_passed_nothing(quizzed, labeler, django_assert_num_queries):
    Membership.objects.update(qualified_at="2026-01-01T00:00Z")
    with django_assert_num_queries(1):
        assert claim_slot(project=quizzed, labeler=labeler)
