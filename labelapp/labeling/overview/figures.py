"""A project's labeling as its admin sees it, read from running counts and from what counting.py counted.

Nothing here counts the rows of comparisons, places or judgments: a request costs the same with a million of them.
"""

from collections.abc import Sequence
from datetime import date, datetime, timedelta
from typing import NamedTuple

from django.db.models import Max, Sum
from django.utils import timezone

from labelapp.labeling.overview.charts import Chart, by_day, by_hour
from labelapp.labeling.overview.pace import (
    Cost,
    Finish,
    Pace,
    ahead_of,
    cost_of,
    finish_of,
    pace_of,
    standing,
)
from labelapp.labeling.quality.agreement import Share
from labelapp.labeling.queue import LEASE
from labelapp.models import LabelerPace, Membership, Project, QueueHealth, Skip, Slot, WorkDay

STALE = timedelta(minutes=2)
SILENT = timedelta(minutes=3)  # without a heartbeat nobody sits at the page
ROLES = {Membership.Role.LABELER, Membership.Role.REVIEWER}


class Person(NamedTuple):
    """One labeler: how much, how fast, and what they are doing."""

    name: str
    role: str
    today: int
    cap: int | None
    week: int
    seconds_today: float | None
    seconds_week: float | None
    same: Share  # swapped repeats answered like the first time
    right: Share  # known answers found
    last_seen: datetime | None
    status: str  # working, idle, paused, quiz, or capped
    because: str


class BatchLine(NamedTuple):
    """One batch: what waits in it and whether it will be ready in time."""

    name: str
    pk: int
    priority: int
    deadline: datetime | None
    waiting: int
    done: int
    finish: Finish | None
    standing: str

    @property
    def percent(self) -> int:
        return 100 * self.done // (self.done + self.waiting) if self.done + self.waiting else 100


class Dashboard(NamedTuple):
    """The whole page."""

    health: QueueHealth | None
    stale: bool
    today: int
    all_time: int
    pace: Pace | None
    finish: Finish | None
    seconds_each: float | None
    hours_left: float | None  # of people's active time
    cost: Cost
    charts: list[Chart]
    people: list[Person]
    batches: list[BatchLine]
    skips: list[tuple[str, str, int]]  # reason, its words, how often
    many_skips: list[list[int]]


def read_dashboard(project: Project, now: datetime | None = None) -> Dashboard:
    now = now or timezone.now()
    rows = list(QueueHealth.objects.filter(project=project).select_related("batch"))
    health = next((row for row in rows if row.batch_id is None), None)
    waiting = health.waiting if health else 0
    days = days_of(project)
    judged, seconds = totals_of(project)
    pace = pace_of(days, now.date())
    each = seconds / judged if judged > 0 and seconds else None
    hours = {row.hour: row.judged for row in project.work_hours.filter(hour__gte=now - timedelta(hours=25))}
    return Dashboard(
        health=health,
        stale=health is None or health.checked_at is None or now - health.checked_at > STALE,
        today=days.get(now.date(), 0),
        all_time=judged,
        pace=pace,
        finish=finish_of(waiting, pace, now),
        seconds_each=each,
        hours_left=each and waiting * each / 3600,
        cost=cost_of(hourly=project.hourly_cost, seconds=seconds, judged=judged, waiting=waiting),
        charts=[by_hour(hours, now), by_day(days, now.date())],
        people=people_of(project, now),
        batches=batches_of(rows, waiting, pace, now),
        skips=skips_of(health),
        many_skips=health.skips.get("many", []) if health else [],
    )


def days_of(project: Project) -> dict[date, int]:
    """Judgments by day, of the last 15 days."""
    recent = WorkDay.objects.filter(project=project, day__gte=timezone.now().date() - timedelta(days=15))
    return dict(recent.order_by().values_list("day").annotate(judged=Sum("judged")))


def totals_of(project: Project) -> tuple[int, float]:
    """Judgments and active seconds of all time. One row a labeler and day: some thousands in a year."""
    found = WorkDay.objects.filter(project=project).aggregate(judged=Sum("judged"), seconds=Sum("active_seconds"))
    return found["judged"] or 0, found["seconds"] or 0.0


def people_of(project: Project, now: datetime) -> list[Person]:
    """Everybody who labels or has labeled: those at work first, then by what they did this week."""
    days = work_by_person(project, now.date())
    paces = {pace.labeler_id: pace for pace in LabelerPace.objects.filter(project=project)}
    members = project.memberships.select_related("user").order_by("user__username")
    shown = [member for member in members if member.role in ROLES or member.user_id in days]
    beats = heartbeats(project, [member.user_id for member in shown])
    people = [person_of(member, days, paces.get(member.user_id), beats, now) for member in shown]
    return sorted(people, key=lambda person: (person.status != "working", -person.week, person.name))


def work_by_person(project: Project, today: date) -> dict[int, dict]:
    """judged today and in seven days, by labeler."""
    week = WorkDay.objects.filter(project=project, day__gt=today - timedelta(days=7))
    found = {row["labeler"]: row for row in week.order_by().values("labeler").annotate(week=Sum("judged"))}
    for labeler, judged in week.filter(day=today).values_list("labeler", "judged"):
        found[labeler]["today"] = judged
    return found


def heartbeats(project: Project, people: Sequence[int]) -> dict[int, datetime]:
    """When each of them last took or held an item: a lease ends a fixed time after that."""
    held = Slot.objects.filter(labeler__in=people, state=Slot.State.LEASED, project=project)
    found = held.order_by().values_list("labeler").annotate(until=Max("lease_until"))
    return {labeler: until - LEASE for labeler, until in found}


def person_of(member: Membership, days: dict, pace: LabelerPace | None, beats: dict, now) -> Person:
    work = days.get(member.user_id, {})
    beat = beats.get(member.user_id)
    last = max(filter(None, [beat, pace and pace.last_judged_at]), default=None)
    return Person(
        name=member.user.get_username(),
        role=member.role,
        today=work.get("today", 0),
        cap=member.cap,
        week=work.get("week", 0),
        seconds_today=pace.seconds_today if pace and work.get("today") else None,
        seconds_week=pace and pace.seconds_week,
        same=Share(pace.repeats_same, pace.repeats) if pace else Share(0, 0),
        right=Share(pace.gold_right, pace.gold) if pace else Share(0, 0),
        last_seen=last and min(last, now),
        status=status_of(member, work.get("today", 0), beat, now),
        because=member.paused_because if member.paused_at else "",
    )


def status_of(member: Membership, today: int, beat: datetime | None, now: datetime) -> str:
    """The first that holds: paused, quiz, capped, working, idle."""
    if member.paused_at:
        return "paused"
    if member.is_before_quiz:
        return "quiz"
    if member.cap is not None and today >= member.cap:
        return "capped"
    return "working" if beat and now - beat < SILENT else "idle"


def batches_of(rows: list[QueueHealth], waiting: int, pace: Pace | None, now: datetime) -> list[BatchLine]:
    """Batches by deadline. Before a batch is finished, all that is handed out no later has to be."""
    found = [row for row in rows if row.batch_id]
    loose = waiting - sum(row.waiting for row in found)
    groups = [(row.batch.priority, row.waiting) for row in found] + [(0, max(0, loose))]
    lines = [batch_line(row, ahead_of(groups, row.batch.priority), pace, now) for row in found]
    return sorted(lines, key=lambda line: (not line.waiting, line.deadline is None, line.deadline, line.name))


def batch_line(row: QueueHealth, ahead: int, pace: Pace | None, now: datetime) -> BatchLine:
    finish = finish_of(ahead, pace, now) if row.waiting else None
    said = standing(waiting=row.waiting, deadline=row.batch.deadline, finish=finish, now=now)
    return BatchLine(
        row.batch.name, row.batch_id, row.batch.priority, row.batch.deadline, row.waiting, row.done, finish, said
    )


def skips_of(health: QueueHealth | None) -> list[tuple[str, str, int]]:
    counts = health.skips.get("reasons", {}) if health else {}
    words = dict(Skip.Reason.choices)
    return sorted(((key, str(words.get(key, key)), n) for key, n in counts.items()), key=lambda row: -row[2])

