"""Bars over time, drawn on the server: what the page puts into an SVG, and the same numbers as rows of a table."""

from collections.abc import Mapping, Sequence
from datetime import date, datetime, timedelta
from typing import Any, NamedTuple

from django.utils.formats import date_format
from django.utils.translation import gettext as _
from django.utils.translation import ngettext

WIDTH, HEIGHT, GAP = 480.0, 96.0, 0.25  # GAP: share of a bar's place that stays free


class Bar(NamedTuple):
    x: str
    y: str
    width: str
    height: str
    label: str
    value: int


class Chart(NamedTuple):
    """Bars from the oldest to the newest. `top` is the value of the highest."""

    title: str
    unit: str
    bars: list[Bar]
    top: int
    first: str
    last: str
    summary: str


def by_hour(hours: Mapping[datetime, int], now: datetime) -> Chart:
    """The last 24 hours, the one that is going on included."""
    current = now.replace(minute=0, second=0, microsecond=0)
    times = [current - timedelta(hours=back) for back in range(23, -1, -1)]
    labels = [date_format(time, "j M, H:i") for time in times]
    return chart(_("Last 24 hours"), _("Hour (UTC)"), labels, [hours.get(time, 0) for time in times])


def by_day(days: Mapping[date, int], today: date) -> Chart:
    """The last 14 days, today included."""
    dates = [today - timedelta(days=back) for back in range(13, -1, -1)]
    labels = [date_format(day, "j M") for day in dates]
    return chart(_("Last 14 days"), _("Day (UTC)"), labels, [days.get(day, 0) for day in dates])


def chart(title: str, unit: str, labels: Sequence[str], values: Sequence[int]) -> Chart:
    top, place = max(values), WIDTH / len(values)
    pairs = enumerate(zip(labels, values, strict=True))
    bars = [bar(number, label, value, top, place) for number, (label, value) in pairs]
    many = ngettext("%(count)s judgment", "%(count)s judgments", sum(values)) % {"count": f"{sum(values):,}"}
    return Chart(title, unit, bars, top, labels[0], labels[-1], f"{title}: {many}")


def bar(number: int, label: str, value: int, top: int, place: float) -> Bar:
    """A bar in a box of WIDTH by HEIGHT; whatever is not zero is visible."""
    height = max(1.5, HEIGHT * value / top) if value > 0 else 0.0
    numbers: tuple[Any, ...] = (number * place, HEIGHT - height, place * (1 - GAP), height)
    return Bar(*(f"{each:.1f}" for each in numbers), label, value)
