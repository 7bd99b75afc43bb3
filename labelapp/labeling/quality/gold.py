"""Gold: comparisons whose answer is known, handed out among the others to see how carefully people work."""

import random
from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

from django.db import transaction
from django.db.models import Exists, OuterRef, Q, QuerySet
from django.utils.html import format_html
from django.utils.safestring import SafeString, mark_safe
from django.utils.translation import gettext

from labelapp.labeling.quality.agreement import Share, check_gold, is_right
from labelapp.labeling.quality.places import add_slot
from labelapp.labeling.text.render import render_markdown
from labelapp.models import Comparison, Judgment, Membership, Project, Skip, Slot

CHECKS = (Slot.Purpose.GOLD, Slot.Purpose.QUIZ)


@dataclass(frozen=True)
class Outcome:
    """What a labeler is told after a question whose answer was known."""

    right: bool
    explanation: str


def as_html(outcome: Outcome) -> SafeString:
    """The outcome, in friendly words, and its explanation, which is markdown as guidelines are."""
    if outcome.right:
        said = gettext("The answer to the last item was known, and you found it.")
    else:
        said = gettext("The answer to the last item was known, and it was another one.")
    return format_html('<p>{}</p><div dir="auto">{}</div>', said, mark_safe(render_markdown(outcome.explanation)))


@transaction.atomic
def make_gold(comparison: Comparison, *, gold: Any, explanation: str = "") -> None:
    """Say what the right answer to a comparison is, and why. Raises BadGold.

    The comparison itself is marked, it is not copied: then the claim's own rule keeps it from everybody who has seen
    it. What people said of it before stays a vote, for they gave it as work, knowing nothing; what is answered from
    now on, in places made for one person each, is none (datasets.freeze.counts_as_vote). Its open places for work
    close, so that it checks people instead of being worked off.
    """
    check_gold(gold, comparison.comparisoncompletion_set.count())
    # Slots before the comparison, as a submit locks them.
    comparison.slots.filter(purpose=Slot.Purpose.WORK, state=Slot.State.OPEN).update(state=Slot.State.CLOSED)
    Comparison.objects.filter(pk=comparison.pk).update(gold=gold, explanation=explanation.strip())


@transaction.atomic
def remove_gold(comparison: Comparison) -> None:
    """Its answer is not known after all: nobody is checked with it any more, and its places for work open again."""
    unanswered = comparison.slots.filter(purpose__in=CHECKS, state__in=[Slot.State.OPEN, Slot.State.LEASED])
    unanswered.leave(Slot.State.CLOSED)
    comparison.slots.filter(purpose=Slot.Purpose.WORK, state=Slot.State.CLOSED).update(state=Slot.State.OPEN)
    Comparison.objects.filter(pk=comparison.pk).update(gold=None, explanation="")


def gold_of(project: Project) -> QuerySet[Comparison]:
    return project.comparisons.filter(gold__isnull=False)


def hand_gold(project: Project, labeler_id: int) -> Slot | None:
    """Reserve a gold item that this person has not seen; None where there is none.

    What another transaction holds is passed over: there is no waiting, and so no deadlock, inside of a submit.
    """
    membership = Membership.objects.filter(project=project, user=labeler_id).first()
    unseen = membership and list(unseen_gold(membership).values_list("pk", flat=True))
    if not unseen:
        return None
    chosen = Comparison.objects.filter(pk=random.choice(unseen))
    comparison = chosen.select_for_update(no_key=True, skip_locked=True, of=("self",)).first()
    return comparison and add_slot(comparison, purpose=Slot.Purpose.GOLD, reserved_for_id=labeler_id)


def unseen_gold(membership: Membership) -> QuerySet[Comparison]:
    """Gold that the person may be asked, by their tags, and has neither held nor judged nor skipped."""
    here, person = {"comparison": OuterRef("pk")}, membership.user_id
    held = Slot.objects.filter(Q(reserved_for=person) | Q(labeler=person), **here)
    judged, skipped = (model.objects.filter(labeler=person, **here) for model in (Judgment, Skip))
    return Comparison.objects.filter(
        ~Exists(held), ~Exists(judged), ~Exists(skipped),
        project=membership.project_id, gold__isnull=False, requires__contained_by=membership.tags,
    )  # fmt: skip


def outcome_of(judgment: Judgment) -> Outcome | None:
    """What to tell the labeler, where the known answer comes with an explanation."""
    comparison = judgment.comparison
    if comparison.gold is None or not comparison.explanation:
        return None
    return Outcome(is_right(judgment, comparison.gold), comparison.explanation)


def gold_accuracy(project: Project, labeler=None) -> Share:
    """How many known answers were found, of those asked; of one labeler, or of all. See is_right."""
    answers = first_answers(project, CHECKS)
    return right_of(answers if labeler is None else answers.filter(labeler=labeler))


def first_answers(project: Project, purposes: Collection[str]) -> QuerySet[Judgment]:
    """Answers where people were checked. The first one counts: after it, the right one may have been explained."""
    return Judgment.objects.filter(
        slot__project=project, slot__purpose__in=purposes, replaces=None, surplus=False, comparison__gold__isnull=False
    ).select_related("comparison")


def right_of(answers: QuerySet[Judgment]) -> Share:
    found = [is_right(answer, answer.comparison.gold) for answer in answers]
    return Share(sum(found), len(found))
