"""Why there is nothing to judge, and when there will be."""

from datetime import timedelta
from math import ceil
from typing import Any

from django.db.models import Count, DurationField, Exists, ExpressionWrapper, Min, OuterRef, QuerySet
from django.db.models.functions import Now

from labelapp.labeling.quality.quiz import FAILED, quiz_state
from labelapp.models import Judgment, Membership, Project, Skip, Slot

MEETINGS = (Slot.objects, Judgment.objects, Skip.objects)
LOOKED_AT = 2000  # places of a queue that may have a million


def why_empty(*, project: Project, labeler, judged_today: int) -> dict[str, Any]:
    """{"why", ...}: what keeps this person from work, in the order in which it would have to be lifted.

    "paused": with `because`. "quiz": not passed, `right` of `needed`. "cap": with `cap`. "others": `items` that they
    could judge are with other labelers, the first of them for `minutes` more. "tags": `items` need `tags` that they do
    not have. "done": nothing is left, or ever was.
    """
    membership = Membership.objects.select_related("project").get(project=project, user=labeler)
    return (
        _stopped(project, membership, judged_today)
        or _elsewhere(project, labeler, membership.tags)
        or _lacking(project, labeler, membership.tags)
        or {"why": "done"}
    )


def _stopped(project: Project, membership: Membership, judged_today: int) -> dict[str, Any] | None:
    if membership.paused_at:
        return {"why": "paused", "because": membership.paused_because}
    quiz = quiz_state(membership) if project.quiz_items else None
    if quiz and quiz.state == FAILED:
        return {"why": "quiz", "right": quiz.right, "needed": quiz.needed}
    cap = membership.cap
    if cap is not None and judged_today >= cap:
        return {"why": "cap", "cap": cap}
    return None


def _unseen(places: QuerySet[Slot], labeler) -> QuerySet[Slot]:
    """Those of the places whose comparisons this person neither has, nor judged, nor skipped."""
    met = (rows.filter(comparison=OuterRef("comparison"), labeler=labeler) for rows in MEETINGS)
    return places.filter(*(~Exists(rows) for rows in met))


def _elsewhere(project: Project, labeler, tags: list[str]) -> dict[str, Any] | None:
    """Found by who holds them: nothing else tells the few that are leased from a million that are open."""
    wait = ExpressionWrapper(Min("lease_until") - Now(), output_field=DurationField())
    people = project.memberships.values("user")
    leased = Slot.objects.filter(labeler__in=people, state=Slot.State.LEASED, project=project, reserved_for=None)
    fitting = _unseen(leased, labeler).filter(requires__contained_by=tags)
    found = fitting.aggregate(items=Count("comparison", distinct=True), wait=wait)
    if not found["items"]:
        return None
    seconds = max(found["wait"], timedelta(seconds=1)).total_seconds()
    return {"why": "others", "items": found["items"], "minutes": ceil(seconds / 60)}


def _lacking(project: Project, labeler, tags: list[str]) -> dict[str, Any] | None:
    """Work that needs tags which this person does not have, among the first LOOKED_AT open places."""
    places = Slot.objects.filter(project=project, reserved_for=None, state=Slot.State.OPEN)
    first = places.order_by("priority", "shuffle_key").values("pk")[:LOOKED_AT]
    rows = _unseen(Slot.objects.filter(pk__in=first), labeler).exclude(requires__contained_by=tags)
    needs = dict(rows.values_list("comparison", "requires"))
    if not needs:
        return None
    missing = sorted({tag for requires in needs.values() for tag in requires} - set(tags))
    return {"why": "tags", "items": len(needs), "tags": missing}
