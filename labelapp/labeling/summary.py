"""What a labeler may look back on: how much, how long, how steadily. Only their own work."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import pairwise
from statistics import median

from django.utils import timezone

from labelapp.labeling.actions import own_judgments
from labelapp.labeling.quality.agreement import Share
from labelapp.labeling.quality.gold import gold_accuracy
from labelapp.labeling.quality.repeats import self_consistency
from labelapp.models import Project, WorkDay

PAUSE = timedelta(minutes=30)  # without a judgment: what comes after it is another sitting


@dataclass(frozen=True)
class Summary:
    """One labeler's figures.

    seconds: median active time of today's judgments. repeats: items shown twice, the other way round, that got the same
    answer. gold: items with a known answer that were answered so.
    """

    today: int
    sitting: int
    seconds: float | None
    repeats: Share
    gold: Share


def summary_of(*, project: Project, labeler) -> Summary:
    now = timezone.now()
    day = WorkDay.objects.filter(project=project, labeler=labeler, day=now.date()).first()
    standing = own_judgments(project=project, labeler=labeler).filter(replaced_by=None, withdrawn=False)
    recent = list(standing.filter(created_at__gte=now - timedelta(days=1)).values_list("created_at", "active_seconds"))
    times = [seconds for at, seconds in recent if seconds is not None and at.date() == now.date()]
    return Summary(
        today=day.judged if day else 0,
        sitting=sitting_of([at for at, _ in recent]),
        seconds=median(times) if times else None,
        repeats=self_consistency(project, labeler),
        gold=gold_accuracy(project, labeler),
    )


def sitting_of(moments: list[datetime]) -> int:
    """How many of the moments, newest first, belong to the last sitting."""
    gaps = [newer - older for newer, older in pairwise(moments)]
    return next((index for index, gap in enumerate(gaps, start=1) if gap > PAUSE), len(moments))
