"""The quiz: gold items that a new labeler answers before the first real one."""

import random
from typing import NamedTuple

from django.db import transaction
from django.utils import timezone
from django.utils.translation import gettext

from labelapp.labeling.quality.gold import first_answers, gold_of, right_of, unseen_gold
from labelapp.labeling.quality.places import add_slot, lock_comparison
from labelapp.labeling.refusals import NoQuiz
from labelapp.models import Judgment, Membership, Project, Slot

NOT_STARTED, RUNNING, PASSED, FAILED = "not_started", "running", "passed", "failed"


class QuizState(NamedTuple):
    """How far somebody is. needed: right answers that let them in, fewer where there was less gold to ask."""

    state: str
    answered: int
    items: int
    right: int
    needed: int


def quiz_state(membership: Membership) -> QuizState:
    """Where this person stands. Passed is also whoever needs no quiz, and whom an admin let in."""
    project = membership.project
    states = list(_places(membership).values_list("state", flat=True))
    answered, items = states.count(Slot.State.DONE), len(states)
    needed = min(project.quiz_right, items)
    right = right_of(_answers(membership)).hits if answered else 0
    if not membership.is_before_quiz:
        state = PASSED
    elif not items:
        state = NOT_STARTED
    elif answered < items:
        state = RUNNING
    else:
        state = PASSED if right >= needed else FAILED
    return QuizState(state, answered, items, right, needed)


def quiz_lacks_gold(project: Project) -> bool:
    """Whether a quiz is asked for and there is nothing to ask: then new people are let in without one."""
    return project.quiz_items > 0 and not gold_of(project).exists()


@transaction.atomic
def begin_quiz(*, project: Project, labeler) -> bool:
    """Reserve the quiz for somebody who has none yet; whether there may be an item for them now.

    The quiz is as long as there is gold that they have not seen; where there is none, they are let in.
    """
    if not project.quiz_items:
        return False
    membership = _locked(project, labeler.pk)
    if membership is None or not membership.is_before_quiz:
        return False
    if membership.paused_at or _places(membership).exists():
        return False
    chosen = list(unseen_gold(membership).order_by("?").values_list("pk", flat=True)[: project.quiz_items])
    if not chosen:
        _qualify(membership)
        return True
    # Locked in one order by everybody, handed out in another by chance.
    comparisons = [lock_comparison(pk) for pk in sorted(chosen)]
    for comparison in random.sample(comparisons, len(comparisons)):
        add_slot(comparison, purpose=Slot.Purpose.QUIZ, reserved_for=labeler)
    return True


def finish_quiz(judgment: Judgment) -> None:
    """Let the labeler in once the last answer of the quiz is there and enough of them are right."""
    membership = _locked(judgment.project_id, judgment.labeler_id)
    if membership and not membership.qualified_at and quiz_state(membership).state == PASSED:
        _qualify(membership)


@transaction.atomic
def let_in(membership: Membership) -> None:
    """Let somebody work whatever the quiz said; what they were still asked is dropped."""
    membership = _locked(membership.project_id, membership.user_id)
    _drop_open(membership)
    _qualify(membership)


@transaction.atomic
def let_try_again(membership: Membership) -> None:
    """Ask somebody another quiz. Raises NoQuiz where there is no gold that they have not seen, or they are in."""
    membership = _locked(membership.project_id, membership.user_id)
    if membership.qualified_at:
        raise NoQuiz(gettext("%(user)s works here already and needs no quiz.") % {"user": membership.user})
    if not unseen_gold(membership).exists():
        raise NoQuiz(
            gettext("%(user)s has seen all gold there is: mark more comparisons as gold, or let them in.")
            % {"user": membership.user}
        )
    _drop_open(membership)
    _places(membership).update(purpose=Slot.Purpose.GOLD)  # what they said stays, as answers to gold


def _locked(project, user_id: int) -> Membership | None:
    mine = Membership.objects.select_related("project", "user").filter(project=project, user=user_id)
    return mine.select_for_update(no_key=True, of=("self",)).first()


def _places(membership: Membership):
    mine = Slot.objects.filter(project=membership.project_id, reserved_for=membership.user_id)
    return mine.filter(purpose=Slot.Purpose.QUIZ).exclude(state=Slot.State.CLOSED)


def _answers(membership: Membership):
    done = first_answers(membership.project, [Slot.Purpose.QUIZ]).filter(slot__state=Slot.State.DONE)
    return done.filter(labeler=membership.user_id)


def _drop_open(membership: Membership) -> None:
    unanswered = _places(membership).exclude(state=Slot.State.DONE)
    unanswered.leave(Slot.State.CLOSED)


def _qualify(membership: Membership) -> None:
    Membership.objects.filter(pk=membership.pk).update(qualified_at=timezone.now())
