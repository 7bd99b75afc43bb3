"""Rounds that begin by themselves: after so many judgments, by the clock, or both.

Beat asks every minute. A tick claims a due schedule in one statement, so of two beats one acts; freezing again gives
the same snapshot, and the database refuses a second active round: a worker lost anywhere in between costs a delay.
"""

from datetime import datetime, timedelta

import structlog
from celery.schedules import ParseException, crontab
from django.db import transaction
from django.db.models import Q
from django.db.models.functions import Now
from django.utils import timezone

from labelapp.datasets.actions import NothingToFreeze, freeze_snapshot
from labelapp.datasets.counts import project_counts
from labelapp.models import Estimate, Round, Schedule, User
from labelapp.models.rounds import ACTIVE_STATES
from labelapp.rounds.actions import LaunchRefused, launch_round, usual_parent
from labelapp.rounds.automatic import promote_if_passed
from labelapp.rounds.budget import has_budget
from labelapp.rounds.dry_runs import is_lost, order_estimate
from labelapp.rounds.estimate import expected_of, plan_digest
from labelapp.rounds.recipes import OptionRefused, read_settings
from labelapp.rounds.saved import Plan, plan_preset, plan_saved

PATIENCE = timedelta(minutes=15)  # for freezing and launching
log = structlog.get_logger(__name__)


class BadCron(ValueError):
    """No line of cron's five fields. The message is a sentence."""


def read_cron(text: str) -> crontab:
    """Minute, hour, day of month, month, day of week, in UTC, such as "0 3 * * 1". Raises BadCron."""
    try:
        found = crontab.from_string(text)
        found.is_due(timezone.now())  # 31 February parses
    except (ParseException, ValueError, TypeError) as error:
        raise BadCron(f"{text!r} is no time: give minute, hour, day, month and weekday, as 0 3 * * 1.") from error
    return found


def save(schedule: Schedule, *, by: User) -> None:
    """Store what somebody set; judgments and the clock count from now on."""
    schedule.changed_by, schedule.seen_judgments = by, project_counts(schedule.project)["judgments"]
    schedule.looked_at, schedule.busy_until, schedule.outcome = Now(), None, ""
    schedule.save()


def tick() -> None:
    """Promote what passed and launch what is due. One schedule that fails does not keep the others waiting."""
    enabled = Schedule.objects.filter(enabled=True)
    for schedule in enabled.select_related("project", "last_round__project", "recipe_version__recipe"):
        try:
            if schedule.last_round:  # first: the next round starts from what answers
                promote_if_passed(schedule.last_round)
            if (reason := why_due(schedule)) and claim(schedule):
                run(schedule, reason)
        except Exception:
            log.exception("schedule failed", project=schedule.project.slug)


def why_due(schedule: Schedule) -> str:
    """In words why a round should begin now; empty where none should, or one is under way."""
    if schedule.project.rounds.filter(kind=Round.Kind.TRAINING, state__in=ACTIVE_STATES).exists():
        return ""
    new = new_judgments(schedule)
    if schedule.every_judgments and new >= schedule.every_judgments:
        return f"{new:,} new judgments"
    if schedule.cron and read_cron(schedule.cron).is_due(schedule.looked_at).is_due:
        return f"the clock ({schedule.cron})"
    return ""


def new_judgments(schedule: Schedule) -> int:
    return max(0, project_counts(schedule.project)["judgments"] - schedule.seen_judgments)


def next_time(schedule: Schedule) -> datetime | None:
    """When the clock is next due, without regard to what is under way."""
    if not schedule.cron:
        return None
    due = timezone.now() + timedelta(seconds=read_cron(schedule.cron).is_due(schedule.looked_at).next)
    return (due + timedelta(seconds=30)).replace(second=0, microsecond=0)  # a hair before or after the minute


def claim(schedule: Schedule) -> bool:
    """Be the only one who launches for it, until PATIENCE is over. False where somebody else was first."""
    free = Schedule.objects.filter(pk=schedule.pk, enabled=True, looked_at=schedule.looked_at)
    return free.filter(Q(busy_until=None) | Q(busy_until__lt=Now())).update(busy_until=Now() + PATIENCE) == 1


def run(schedule: Schedule, reason: str) -> None:
    """Freeze and launch, and write down what came of it: a refusal is a sentence, and is tried again when next due."""
    project, judgments = schedule.project, project_counts(schedule.project)["judgments"]
    try:
        snapshot = freeze_snapshot(project=project, by=None)
        if schedule.last_round and schedule.last_round.snapshot_id == snapshot.pk:
            return settle(schedule, judgments, f"No judgment has changed since round {schedule.last_round.number}.")
        if (parent := usual_parent(project)) is None:
            return settle(schedule, judgments, "There is no policy to start from; import one.")
        start = {"project": project, "snapshot": snapshot, "parent": parent}
        if has_budget(project) and expected_of(plan=plan_of(schedule), **start) is None:
            return run_dry_first(schedule, judgments, reason, start)
        with transaction.atomic():
            round = launch_round(
                **start,
                recipe=schedule.recipe,
                mitigation=schedule.mitigation,
                changes=read_settings(schedule.further),
                saved=schedule.recipe_version,
                why=reason,
            )
            settle(schedule, judgments, f"Round {round.number} was launched after {reason}.", last_round=round)
    except (NothingToFreeze, LaunchRefused, OptionRefused) as refusal:
        settle(schedule, judgments, f"No round was launched after {reason}: {refusal}")


def plan_of(schedule: Schedule) -> Plan:
    if schedule.recipe_version:
        return plan_saved(schedule.recipe_version)
    changes = read_settings(schedule.further)
    return plan_preset(schedule.recipe, mitigation=schedule.mitigation, changes=changes)


def run_dry_first(schedule: Schedule, judgments: int, reason: str, start: dict) -> None:
    """With a budget, nothing is launched of which nobody knows what it takes: a worker runs it dry, and a later tick
    finds what that took. A dry run that failed since this was due is the end of it."""
    plan = plan_of(schedule)
    last = schedule.project.estimates.filter(plan=plan_digest(plan.stages), created_at__gte=schedule.looked_at).first()
    if last and last.state == Estimate.State.FAILED:
        return settle(schedule, judgments, f"No round was launched after {reason}: {last.error}")
    if last is None or is_lost(last):
        order_estimate(plan=plan, **start)
    outcome = f"After {reason} the round is run dry first, as the project has a budget; it is launched after that."
    Schedule.objects.filter(pk=schedule.pk).update(busy_until=None, outcome=outcome)


def settle(schedule: Schedule, judgments: int, outcome: str, **more) -> None:
    done = {"seen_judgments": judgments, "looked_at": Now(), "busy_until": None, "outcome": outcome}
    Schedule.objects.filter(pk=schedule.pk).update(**done, **more)
    log.info("schedule ran", project=schedule.project.slug, outcome=outcome)
