"""What rounds take and took, as the pages show it: estimate beside actual, and the month's bookings."""

from decimal import Decimal
from typing import NamedTuple

from django.db.models import Sum

from labelapp.models import Booking, Project, Round
from labelapp.rounds.budget import (
    Expected,
    booked_seconds,
    has_prices,
    hours_text,
    money_of,
    money_text,
    spent_this_month,
)
from labelapp.rounds.checks import size
from labelapp.rounds.overview import duration, is_over, label_of

LISTED = 100


class Reckoned(NamedTuple):
    """An estimate in words. cost: empty where no hour has a price."""

    hours: str
    wall: str
    memory: str
    cost: str
    device: str
    source: str
    stages: list[tuple[str, str]]


def reckoned(project: Project, expected: Expected) -> Reckoned:
    return Reckoned(
        hours=hours_text(expected.device_hours),
        wall=duration(expected.device_seconds),
        memory=size(expected.peak_bytes) if expected.peak_bytes else "–",
        cost=cost(project, money_of(project, expected.device, expected.device_seconds), project.currency),
        device=expected.device,
        source=expected.source,
        stages=[(name.replace("_", " "), duration(seconds)) for name, seconds in expected.stages.items()],
    )


def cost(project: Project, money: Decimal, currency: str) -> str:
    return money_text(money, currency) if has_prices(project) or money else ""


class Line(NamedTuple):
    """One figure of a round, before and after."""

    name: str
    expected: str
    actual: str


def lines_of(round: Round) -> list[Line]:
    """Time of each stage, device-hours, memory and cost, as expected and as they were; empty where nothing is known."""
    expected = Expected(**round.expected) if "device_seconds" in (round.expected or {}) else None
    booking = round.booking
    if not expected and not booking:
        return []
    guess = reckoned(round.project, expected) if expected else None
    lines = [stage_line(stage, expected) for stage in round.stages.order_by("number")]
    lines.append(Line("Device-hours", guess.hours if guess else "", booking_hours(round, booking)))
    lines.append(Line("Memory at most", guess.memory if guess else "", booking_memory(booking)))
    actual = cost(round.project, booked_money(round, booking), booking.currency) if booking else ""
    if actual or (guess and guess.cost):
        lines.append(Line("Cost", guess.cost if guess else "", actual))
    return lines


def stage_line(stage, expected: Expected | None) -> Line:
    seconds = (stage.result or {}).get("seconds")
    guess = expected.stages.get(stage.name) if expected else None
    name = f"Time of {label_of(stage)}"
    return Line(name, duration(guess) if guess else "", duration(seconds) if seconds is not None else "")


def booking_hours(round: Round, booking: Booking | None) -> str:
    if booking and is_over(round):
        return hours_text(booked_seconds(round) / 3600)
    return "" if is_over(round) else f"{hours_text(round.device_time.total_seconds() / 3600)} so far"


def booked_money(round: Round, newest: Booking) -> Decimal:
    """In the newest booking's currency."""
    return round.bookings.filter(currency=newest.currency).aggregate(all=Sum("money"))["all"]


def booking_memory(booking: Booking | None) -> str:
    return size(booking.peak_bytes) if booking and booking.peak_bytes else ""


class Month(NamedTuple):
    """Spent of a limit, in words; limit empty where there is none."""

    name: str
    spent: str
    limit: str
    percent: int | None


def month_of(project: Project) -> list[Month]:
    spent = spent_this_month(project)
    hours, money = project.budget_device_hours, project.budget_money
    limit = hours_text(float(hours)) if hours is not None else ""
    lines = [Month("Device-hours", hours_text(spent.device_hours), limit, percent(spent.device_hours, hours))]
    if has_prices(project) or money is not None:
        limit = money_text(money, project.currency) if money is not None else ""
        lines.append(Month("Money", money_text(spent.money, project.currency), limit, percent(spent.money, money)))
    return lines


def percent(spent: float | Decimal, limit: Decimal | None) -> int | None:
    return min(100, int(100 * float(spent) / float(limit))) if limit else None


def bookings_of(project: Project) -> list[Booking]:
    return list(project.bookings.select_related("round", "estimate")[:LISTED])
