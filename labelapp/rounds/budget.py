"""Device-hours and money: what is spent this month, whether a round still fits, and what it booked at its end.

A device-hour is an hour in which a worker held a round (or a dry run) on one machine: one GPU, or one trainer on CPU.
Rounds under way count with what they were reckoned to take, or with what they took so far where that is more.
"""

from datetime import timedelta
from decimal import Decimal
from typing import Any, NamedTuple

from django.db.models import Sum
from django.db.models.functions import Now, TruncMonth

from labelapp.models import Booking, Estimate, Project, Round
from labelapp.models.rounds import ACTIVE_STATES
from labelapp.rounds.refusals import BudgetRefused

CPU = "cpu"
CENT = Decimal("0.0001")


class Expected(NamedTuple):
    """What a round is reckoned to take. plan: digest of its stages; source: in words how that is known."""

    plan: str
    device_seconds: float
    device: str
    peak_bytes: int
    source: str
    stages: dict[str, float] = {}  # seconds by name

    @property
    def device_hours(self) -> float:
        return self.device_seconds / 3600


class Spent(NamedTuple):
    """Of a month: booked, and held back for what is under way."""

    device_hours: float
    money: Decimal


def price_of(project: Project, device: str) -> Decimal:
    """Of a device-hour, in the project's currency; 0 where nobody set one."""
    return project.cpu_hour_price if device == CPU else project.gpu_hour_price


def money_of(project: Project, device: str, seconds: float) -> Decimal:
    return (price_of(project, device) * Decimal(seconds) / 3600).quantize(CENT)


def has_prices(project: Project) -> bool:
    return bool(project.cpu_hour_price or project.gpu_hour_price)


def has_budget(project: Project) -> bool:
    return project.budget_device_hours is not None or project.budget_money is not None


def spent_this_month(project: Project) -> Spent:
    """What was booked since the month's first midnight in UTC, with what rounds and dry runs under way will take."""
    booked = project.bookings.filter(created_at__gte=TruncMonth(Now()))
    seconds = booked.aggregate(all=Sum("device_seconds"))["all"] or 0.0
    money = booked.filter(currency=project.currency).aggregate(all=Sum("money"))["all"] or Decimal(0)
    for round in project.rounds.filter(state__in=ACTIVE_STATES):
        device, held = held_back(round)
        seconds, money = seconds + held, money + money_of(project, device, held)
    return Spent(seconds / 3600, money)


def held_back(round: Round) -> tuple[str, float]:
    """(device, seconds) of a round under way."""
    expected = round.expected or {}
    whole = max(expected.get("device_seconds", 0.0), round.device_time.total_seconds())
    return expected.get("device", CPU), max(0.0, whole - booked_seconds(round))


def refuse_over_budget(project: Project, expected: Expected | None, *, must_know: bool) -> None:
    """Raise BudgetRefused where a budget of the month would be exceeded. Call it while the project is locked.

    must_know: refuse also where there is a budget and no estimate; else an unknown round counts as nothing, and is
    refused once the budget is used up.
    """
    limits = Project.objects.get(pk=project.pk)  # as committed by whoever held the lock before
    if not has_budget(limits):
        return
    if expected is None and must_know:
        raise BudgetRefused(
            "This project has a budget, and nothing is known yet of what this round would take: estimate it first."
        )
    spent, seconds = spent_this_month(limits), expected.device_seconds if expected else 0.0
    if limits.budget_device_hours is not None:
        hours, limit = spent.device_hours, float(limits.budget_device_hours)
        if hours + seconds / 3600 > limit or (not expected and hours >= limit):
            raise BudgetRefused(sentence(hours_text(hours), hours_text(seconds / 3600), hours_text(limit), expected))
    if limits.budget_money is not None:
        cost, unit = money_of(limits, expected.device if expected else CPU, seconds), limits.currency
        if spent.money + cost > limits.budget_money or (not expected and spent.money >= limits.budget_money):
            texts = [money_text(each, unit) for each in (spent.money, cost, limits.budget_money)]
            raise BudgetRefused(sentence(*texts, expected))


def sentence(spent: str, estimate: str, limit: str, expected: Expected | None) -> str:
    takes = f"this round would take about {estimate}" if expected else "what this round takes is not known"
    return (
        f"The month's budget is {limit}: {spent} are spent or held back, and {takes}. Wait for next month, raise the "
        "budget, or make the round smaller."
    )


def hours_text(hours: float) -> str:
    """Such as "0.05 device-hours": three digits that count, and never less than a thousandth."""
    if 0 < hours < 0.001:
        return "less than 0.001 device-hours"
    return f"{hours:,.0f} device-hours" if hours >= 100 else f"{hours:.3g} device-hour{'' if hours == 1 else 's'}"


def money_text(money: Decimal, currency: str) -> str:
    return f"{money:,.2f} {currency}"


def book_round(round: Round) -> Booking:
    """Book what a round took that has just ended, since it was booked before; the same end books nothing twice."""
    results = [stage.result for stage in round.stages.all() if stage.result]
    device = next((found["device"] for found in results if found.get("device")), None)
    device = device or (round.expected or {}).get("device", CPU)
    time, token = Round.objects.values_list("device_time", "token").get(pk=round.pk)
    seconds = max(0.0, time.total_seconds() - booked_seconds(round))
    booking, _ = Booking.objects.get_or_create(
        round=round, token=token, defaults=facts(round.project, device, seconds, peak_of(results))
    )
    return booking


def booked_seconds(round: Round) -> float:
    return round.bookings.aggregate(all=Sum("device_seconds"))["all"] or 0.0


def book_estimate(estimate: Estimate, *, device: str, took: timedelta) -> Booking:
    """Book a dry run: it held a machine too."""
    stages = estimate.found.get("stages", [])
    booking, _ = Booking.objects.get_or_create(
        estimate=estimate, defaults=facts(estimate.project, device, took.total_seconds(), peak_of(stages))
    )
    return booking


def facts(project: Project, device: str, seconds: float, peak_bytes: int | None) -> dict[str, Any]:
    project.refresh_from_db(fields=["cpu_hour_price", "gpu_hour_price", "currency"])
    return {
        "project": project,
        "device": device[:120],
        "device_seconds": seconds,
        "peak_bytes": peak_bytes,
        "hour_price": price_of(project, device),
        "money": money_of(project, device, seconds),
        "currency": project.currency,
    }


def peak_of(results: list[dict[str, Any]]) -> int | None:
    """The most memory that any stage held, of its GPU where it ran on one."""
    return max((found.get("device_peak_bytes") or found.get("peak_bytes") or 0 for found in results), default=0) or None
