"""What a labeler may look back on: how much, how long, how steadily. Only their own work."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import pairwise
from statistics import median
from typing import Any

from django.utils import timezone

from labelapp.labeling.actions import own_judgments
from labelapp.models import Comparison, ComparisonCompletion, Judgment, Project, WorkDay

PAUSE = timedelta(minutes=30)  # without a judgment: what comes after it is another sitting
MOST_LOOKED_AT = 500  # repeats and gold items, the latest


@dataclass(frozen=True)
class Summary:
    """One labeler's figures; a share is (how many, of how many) and None where there is nothing to count.

    seconds: median active time of today's judgments. repeats: items shown twice, the other way round, that got the same
    answer. gold: items with a known answer that were answered so.
    """

    today: int
    sitting: int
    seconds: float | None
    repeats: tuple[int, int] | None
    gold: tuple[int, int] | None


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
        repeats=_repeats(standing),
        gold=_gold(standing),
    )


def sitting_of(moments: list[datetime]) -> int:
    """How many of the moments, newest first, belong to the last sitting."""
    gaps = [newer - older for newer, older in pairwise(moments)]
    return next((index for index, gap in enumerate(gaps, start=1) if gap > PAUSE), len(moments))


def _share(found: Iterable[bool]) -> tuple[int, int] | None:
    found = list(found)
    return (sum(found), len(found)) if found else None


def _repeats(standing) -> tuple[int, int] | None:
    again = list(standing.filter(comparison__repeats__isnull=False).select_related("comparison")[:MOST_LOOKED_AT])
    first = standing.filter(comparison__in=[row.comparison.repeats_id for row in again])
    first = {row.comparison_id: row for row in first}
    pairs = [(row, first[row.comparison.repeats_id]) for row in again if row.comparison.repeats_id in first]
    texts = _texts([row.comparison_id for pair in pairs for row in pair])
    return _share(_by_text(one, texts) == _by_text(two, texts) for one, two in pairs)


def _texts(comparisons: list[int]) -> dict[int, list[int]]:
    """Completions by position, of each comparison."""
    texts: dict[int, list[int]] = {}
    rows = ComparisonCompletion.objects.filter(comparison__in=comparisons).order_by("comparison", "position")
    for comparison, completion in rows.values_list("comparison", "completion"):
        texts.setdefault(comparison, []).append(completion)
    return texts


def _by_text(judgment: Judgment, texts: dict[int, list[int]]) -> Any:
    """What was preferred, whatever the positions: tiers of completions, or that all were bad."""
    positions = texts.get(judgment.comparison_id, [])
    return judgment.both_bad or [sorted(positions[position] for position in tier) for tier in judgment.ranking or ()]


def _gold(standing) -> tuple[int, int] | None:
    rows = standing.filter(comparison__gold__isnull=False, comparison__origin=Comparison.Origin.GOLD)
    rows = rows.values_list("ranking", "comparison__gold")[:MOST_LOOKED_AT]
    return _share(_tiers(said) == _tiers(known) for said, known in rows)


def _tiers(ranking: list[list[int]] | None) -> list[list[int]]:
    return [sorted(tier) for tier in ranking or ()]
