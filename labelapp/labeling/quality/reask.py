"""Items that come back to somebody who has answered them: asked again by an admin, or returned by a reviewer.

The place that the answer closed opens again, for its labeler alone. The old answer stands until the new one, a
revision of it, replaces it; so nothing is lost where nobody ever answers again.
"""

from collections.abc import Iterable

from django.db.models import Case, Count, Exists, F, Model, OuterRef, Q, QuerySet, Value, When
from django.utils.translation import gettext, ngettext

from labelapp.labeling.refusals import CannotAskAgain
from labelapp.models import GuidelineVersion, Judgment, Membership, Slot

# Places whose answers are votes. Answers that check a labeler are not asked again: they have seen what is right.
VOTES = (Slot.Purpose.WORK, Slot.Purpose.REASK, Slot.Purpose.RETURNED)


def made_under(guideline: GuidelineVersion) -> QuerySet[Judgment]:
    """Standing judgments that cite this version of the guidelines."""
    return Judgment.objects.standing().filter(guideline=guideline)


def reask(*, judgments: Iterable[Judgment] | QuerySet[Judgment], note: str) -> int:
    """Ask the labelers of these judgments again, and say why; how many are asked.

    Left out are answers that do not stand, that have no place here (imports, surplus), that check a labeler, that
    are being asked again already, and those of people who have left the project.
    """
    return _reopen(Judgment.objects.filter(pk__in=keys_of(judgments)), Slot.Purpose.REASK, note)


def why_none(judgments: QuerySet[Judgment]) -> str:
    """After a reask() that asked nobody: why, in sentences."""
    waiting = {"slot__state__in": (Slot.State.OPEN, Slot.State.LEASED), "slot__reserved_for": F("labeler")}
    reasons = Case(
        When(slot=None, then=Value("placeless")),
        When(~Q(slot__purpose__in=VOTES), then=Value("checks")),
        When(**waiting, then=Value("asked")),
        When(slot__labeler=F("labeler"), then=Value("left")),
        default=Value("placeless"),
    )
    standing = judgments.filter(replaced_by=None, withdrawn=False).order_by()
    counted = dict(standing.annotate(why=reasons).values_list("why").annotate(Count("pk")))
    why = [said(n) % {"n": f"{n:,}"} for reason, said in WHY.items() if (n := counted.get(reason))]
    none = gettext("None has been given, or none still stands.")
    return " ".join([gettext("No answer is asked again."), *(why or [none])])


WHY = {
    "asked": lambda n: ngettext("%(n)s is with its labeler already.", "%(n)s are with their labelers already.", n),
    "checks": lambda n: ngettext(
        "%(n)s checks its labeler: gold, a swapped repeat, or the quiz.",
        "%(n)s check their labelers: gold, swapped repeats, or the quiz.", n,
    ),
    "left": lambda n: ngettext("The labeler of %(n)s has left.", "The labelers of %(n)s have left.", n),
    "placeless": lambda n: ngettext(
        "%(n)s has no place here: imported, or given as an extra one.",
        "%(n)s have no place here: imported, or given as extra ones.", n,
    ),
}  # fmt: skip


def return_to_labeler(judgment: Judgment, note: str) -> None:
    """Send a judgment back to whoever made it, with a reviewer's words. Raises CannotAskAgain."""
    if not _reopen(Judgment.objects.filter(pk=judgment.pk), Slot.Purpose.RETURNED, note):
        raise CannotAskAgain(
            gettext(
                "Judgment #%(judgment)s cannot go back: it no longer stands, is with its labeler already, "
                "checks its labeler, or its labeler has no place here any more. Reload, and correct it instead."
            ) % {"judgment": judgment.pk}
        )


def keys_of(rows: Iterable[Model] | QuerySet):
    """What `pk__in` takes for rows that are here already, or that a query would find."""
    return rows.order_by().values("pk") if isinstance(rows, QuerySet) else [row.pk for row in rows]


def _reopen(judgments: QuerySet[Judgment], purpose: str, note: str) -> int:
    """One conditional statement: of two who ask at once, one finds the place open already."""
    standing = judgments.filter(slot=OuterRef("pk"), labeler=OuterRef("labeler"), replaced_by=None, withdrawn=False)
    member = Membership.objects.filter(project=OuterRef("project"), user=OuterRef("labeler"), user__is_active=True)
    answered = Slot.objects.filter(Exists(standing), Exists(member), state=Slot.State.DONE, purpose__in=VOTES)
    free = {"labeler": None, "claim_token": None, "not_before": None, "after_judged": None}
    return answered.update(
        state=Slot.State.OPEN, reserved_for=F("labeler"), purpose=purpose, note=note.strip(), **free
    )
