"""How fast the work goes, and when it will be done: pure functions of daily counts."""

from collections.abc import Mapping
from datetime import date, datetime, timedelta
from decimal import Decimal
from typing import NamedTuple

SPANS = (3, 7, 14)  # days whose paces are compared


class Pace(NamedTuple):
    """Judgments a calendar day, days without work included: of the slowest and the fastest recent span."""

    slow: float
    fast: float


class Finish(NamedTuple):
    """When the work ends: at the fast and at the slow pace."""

    early: datetime
    late: datetime


class Cost(NamedTuple):
    """In the project's currency. None where it cannot be said: no hourly cost, or no timed judgment."""

    per_judgment: Decimal | None
    spent: Decimal | None
    to_finish: Decimal | None


def pace_of(days: Mapping[date, int], today: date) -> Pace | None:
    """The paces of the last 3, 7 and 14 whole days, as far as there was any work then; None without a whole day.

    Today is not over and would make every morning look slow.
    """
    first = min((day for day, judged in days.items() if judged and day < today), default=None)
    if first is None:
        return None
    lengths = {min(span, (today - first).days) for span in SPANS}
    paces = [sum(days.get(today - timedelta(days=back), 0) for back in range(1, n + 1)) / n for n in lengths]
    paces = [pace for pace in paces if pace > 0]
    return Pace(min(paces), max(paces)) if paces else None


def finish_of(waiting: int, pace: Pace | None, now: datetime) -> Finish | None:
    """None where nothing is known of the pace, or it would take more than ten years: that is not an answer."""
    if pace is None or not waiting or waiting / pace.slow > 3650:
        return None
    return Finish(now + timedelta(days=waiting / pace.fast), now + timedelta(days=waiting / pace.slow))


def standing(*, waiting: int, deadline: datetime | None, finish: Finish | None, now: datetime) -> str:
    """What a deadline looks like: "done", "late", "at risk", "on track", "unknown", or "" without a deadline."""
    if not waiting:
        return "done"
    if deadline is None:
        return ""
    if deadline <= now:
        return "late"
    if finish is None:
        return "unknown"
    if finish.late <= deadline:
        return "on track"
    return "at risk" if finish.early <= deadline else "late"


def cost_of(*, hourly: Decimal | None, seconds: float, judged: int, waiting: int) -> Cost:
    """What was spent on `judged` judgments of `seconds` active seconds in all, and what those that wait will cost."""
    if hourly is None:
        return Cost(None, None, None)
    spent = hourly * Decimal(seconds) / 3600
    if not judged or not seconds:
        return Cost(None, spent, None)
    return Cost(spent / judged, spent, spent / judged * waiting)


def ahead_of(groups: list[tuple[int, int]], priority: int) -> int:
    """Judgments that are handed out no later than those of this priority: groups are (priority, waiting)."""
    return sum(waiting for other, waiting in groups if other <= priority)
