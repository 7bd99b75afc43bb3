"""What reviews have found so far."""

from dataclasses import dataclass

from django.db.models import Count, Q

from labelapp.labeling.actions import protocol_of
from labelapp.labeling.words import own_words, said_of
from labelapp.models import Project, Review

LISTED = 100
Verdict = Review.Verdict


@dataclass(frozen=True)
class Agreement:
    """One labeler's judgments that were reviewed; `accepted` of all `reviewed`."""

    labeler: str  # pseudonym
    reviewed: int
    accepted: int
    corrected: int
    returned: int

    @property
    def percent(self) -> int:
        return round(100 * self.accepted / self.reviewed)


def agreement(project: Project) -> list[Agreement]:
    """By labeler, those with most reviews first."""
    here = Review.objects.filter(judgment__comparison__project=project)
    counts = {verdict.value: Count("pk", filter=Q(verdict=verdict)) for verdict in Verdict}
    rows = here.values("judgment__labeler").annotate(reviewed=Count("pk"), **counts)
    rows = rows.order_by("-reviewed", "judgment__labeler")
    return [Agreement(f"labeler-{row.pop('judgment__labeler')}", **row) for row in rows]


def latest_reviews(project: Project, labeler=None) -> list[Review]:
    """The latest reviews, or those of one labeler's judgments, with what was said and what stands instead, in words."""
    here = Review.objects.filter(judgment__comparison__project=project)
    if labeler is not None:
        here = here.filter(judgment__labeler=labeler)
    rows = list(
        here.select_related("reviewer", "correction", "judgment__comparison__prompt")
        .order_by("-created_at", "-pk")[:LISTED]
    )
    for row in rows:
        row.said, row.instead = _words(row.judgment), row.correction and _words(row.correction)
    return rows


def _words(judgment) -> str:
    return own_words(said_of(judgment), protocol_of(judgment.protocol_id))
