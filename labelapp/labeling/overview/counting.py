"""What waits in each project's queue and how fast it goes, counted in the background for the admin's page.

Counting is cheap: leases and reservations are found through the members' own index entries, a project in which nothing
happened is not counted again, and one whose count took long is counted more rarely, so that counting never takes more
than a fiftieth of the time.
"""

import time
from datetime import datetime, timedelta

from django.db import connection, transaction
from django.db.models import Q
from django.utils import timezone

from labelapp.labeling.quality.gold import gold_accuracy
from labelapp.labeling.quality.repeats import self_consistency
from labelapp.models import Batch, LabelerPace, Project, QueueHealth, Slot, WorkDay, WorkHour

REST = 50  # a count that took a second is not repeated for 50 seconds
AT_LEAST_EVERY = timedelta(hours=1)
CHECKS_LAST = timedelta(minutes=10)
HOURS_KEPT = timedelta(days=14)
MANY = 3  # people who skipped an item before somebody should look at it
LISTED = 50

PEOPLE = "(SELECT user_id FROM labelapp_membership WHERE project_id = %(project)s)"
# Index-only on the queue's own partial index: its condition need not be read from the rows.
WAITING = """
SELECT count(*) FROM labelapp_slot
WHERE project_id = %(project)s AND state IN ('open', 'leased') AND reserved_for_id IS NULL
"""
HELD = f"""
SELECT count(*) FILTER (WHERE lease_until >= statement_timestamp()),
  count(*) FILTER (WHERE lease_until < statement_timestamp()),
  (SELECT count(*) FROM labelapp_slot WHERE reserved_for_id IN {PEOPLE} AND project_id = %(project)s
     AND state IN ('open', 'leased'))
FROM labelapp_slot
WHERE labeler_id IN {PEOPLE} AND state = 'leased' AND project_id = %(project)s AND reserved_for_id IS NULL
"""
BATCHES = """
SELECT c.batch_id, count(*) FILTER (WHERE s.state = 'open' AND s.reserved_for_id IS NULL),
  count(*) FILTER (WHERE s.state = 'leased' AND s.reserved_for_id IS NULL AND s.lease_until >= statement_timestamp()),
  count(*) FILTER (WHERE s.state = 'leased' AND s.reserved_for_id IS NULL AND s.lease_until < statement_timestamp()),
  count(*) FILTER (WHERE s.state IN ('open', 'leased') AND s.reserved_for_id IS NOT NULL),
  count(*) FILTER (WHERE s.state = 'done')
FROM labelapp_comparison c JOIN labelapp_slot s ON s.comparison_id = c.id
WHERE c.batch_id IN (SELECT id FROM labelapp_batch WHERE project_id = %(project)s)
GROUP BY c.batch_id
"""
SKIPS = """
SELECT reason, count(*) FROM labelapp_skip
WHERE project_id = %(project)s AND created_at >= statement_timestamp() - interval '7 days'
GROUP BY reason
"""
SKIPPED_BY_MANY = """
SELECT comparison_id, count(DISTINCT labeler_id) FROM labelapp_skip
WHERE project_id = %(project)s AND created_at >= statement_timestamp() - interval '30 days'
GROUP BY comparison_id HAVING count(DISTINCT labeler_id) >= %(many)s ORDER BY 2 DESC, 1 LIMIT %(listed)s
"""
# An undo takes its judgment away again; a revision of one that stands is no further work, unless it was asked for.
HOURS = """
INSERT INTO labelapp_workhour (project_id, hour, judged)
SELECT %(project)s, date_trunc('hour', j.created_at, 'UTC'), GREATEST(0, sum(CASE WHEN j.withdrawn THEN -1
  WHEN old.id IS NULL OR old.withdrawn OR s.purpose IN ('reask', 'returned') THEN 1 ELSE 0 END))
FROM labelapp_judgment j JOIN labelapp_comparison c ON c.id = j.comparison_id
  LEFT JOIN labelapp_judgment old ON old.id = j.replaces_id LEFT JOIN labelapp_slot s ON s.id = j.slot_id
WHERE j.labeler_id IN (SELECT labeler_id FROM labelapp_workday WHERE project_id = %(project)s AND day >= %(day)s)
  AND j.created_at >= %(since)s AND c.project_id = %(project)s AND j.implied_by_id IS NULL
GROUP BY 2
ON CONFLICT (project_id, hour) DO UPDATE SET judged = EXCLUDED.judged
"""
PACES = """
INSERT INTO labelapp_labelerpace (project_id, labeler_id, seconds_today, seconds_week, last_judged_at)
SELECT %(project)s, here.labeler_id, recent.today, recent.week, recent.last
FROM (SELECT DISTINCT labeler_id FROM labelapp_workday
      WHERE project_id = %(project)s AND day > %(today)s::date - 7) here
CROSS JOIN LATERAL (
  SELECT percentile_cont(0.5) WITHIN GROUP (ORDER BY active_seconds)
      FILTER (WHERE (created_at AT TIME ZONE 'UTC')::date = %(today)s) AS today,
    percentile_cont(0.5) WITHIN GROUP (ORDER BY active_seconds) AS week, max(created_at) AS last
  FROM (SELECT j.active_seconds, j.created_at FROM labelapp_judgment j
        JOIN labelapp_comparison c ON c.id = j.comparison_id AND c.project_id = %(project)s
        WHERE j.labeler_id = here.labeler_id AND j.created_at >= %(today)s::date - 6
          AND NOT j.withdrawn AND j.implied_by_id IS NULL
        ORDER BY j.created_at DESC LIMIT 1000) latest) recent
ON CONFLICT (project_id, labeler_id) DO UPDATE SET seconds_today = EXCLUDED.seconds_today,
  seconds_week = EXCLUDED.seconds_week, last_judged_at = EXCLUDED.last_judged_at
"""


def refresh_all() -> int:
    """Count what is due in every project; returns in how many something was counted."""
    newest = Slot.objects.order_by("-pk").values_list("pk", flat=True).first() or 0
    return sum(refresh(project, newest_slot=newest) for project in Project.objects.order_by("pk"))


@transaction.atomic
def refresh(project: Project, *, newest_slot: int, now: datetime | None = None) -> bool:
    """Count one project where that is due. False where nothing changed, or another worker is counting it."""
    now = now or timezone.now()
    QueueHealth.objects.get_or_create(project=project, batch=None)
    row = QueueHealth.objects.select_for_update(skip_locked=True).filter(project=project, batch=None).first()
    if row is None:
        return False
    mark = mark_of(project, newest_slot)
    counted = is_due(row, mark, now)
    if counted:
        started = time.perf_counter()
        count(project, row, now)
        row.mark, row.counted_at, row.count_seconds = mark, now, time.perf_counter() - started
    else:
        row.leased, row.lapsed, row.reserved = held(project, waiting=row.open + row.leased + row.lapsed, row=row)
    row.checked_at = now
    row.save()
    return counted


def mark_of(project: Project, newest_slot: int) -> str:
    """Differs after every judgment, undo, skip and new place."""
    rows = _rows("SELECT sum(judged), sum(skipped) FROM labelapp_workday WHERE project_id = %(project)s", project)
    judged, skipped = rows[0]
    return f"{newest_slot}:{judged or 0}:{skipped or 0}"


def recount_soon(project: Project) -> None:
    """Have the next look count the project: an admin opened, closed or moved places, which the mark does not show."""
    QueueHealth.objects.filter(project=project, batch=None).update(mark="", count_seconds=0)


def is_due(row: QueueHealth, mark: str, now: datetime) -> bool:
    if row.counted_at is None or now - row.counted_at >= AT_LEAST_EVERY:
        return True
    rested = now - row.counted_at >= timedelta(seconds=REST * row.count_seconds)
    return row.mark != mark and rested


def count(project: Project, row: QueueHealth, now: datetime) -> None:
    """Everything, into the row and its neighbours."""
    waiting = _rows(WAITING, project)[0][0]
    row.leased, row.lapsed, row.reserved = held(project, waiting=waiting, row=row)
    row.oldest_slot, row.oldest_open_at = oldest_open(project, row, now) if row.open else (0, None)
    many = _rows(SKIPPED_BY_MANY, project, many=MANY, listed=LISTED)
    row.skips = {"reasons": dict(_rows(SKIPS, project)), "many": [list(pair) for pair in many]}
    count_batches(project, now)
    count_hours(project, now)
    _run(PACES, project, today=now.date())
    here = WorkDay.objects.filter(project=project, day__gt=now.date() - timedelta(days=7)).values("labeler")
    paces = LabelerPace.objects.filter(project=project)
    paces.exclude(labeler__in=here).update(seconds_today=None, seconds_week=None)
    old = Q(checked_at=None) | Q(checked_at__lt=now - CHECKS_LAST)
    for pace in paces.filter(old, labeler__in=here).select_related("labeler"):
        count_checks(project, pace, now)


def count_checks(project: Project, pace: LabelerPace, now: datetime) -> None:
    """How a labeler answered swapped repeats and gold, of all time."""
    again, known = self_consistency(project, pace.labeler), gold_accuracy(project, pace.labeler)
    pace.repeats, pace.repeats_same, pace.gold, pace.gold_right = again.n, again.hits, known.n, known.hits
    pace.checked_at = now
    pace.save(update_fields=["repeats", "repeats_same", "gold", "gold_right", "checked_at"])


def held(project: Project, *, waiting: int, row: QueueHealth) -> tuple[int, int, int]:
    """Leased, run out, reserved; and the row's open places are what is left of those that wait."""
    leased, lapsed, reserved = _rows(HELD, project)[0]
    row.open = max(0, waiting - leased - lapsed)
    return leased, lapsed, reserved


def oldest_open(project: Project, row: QueueHealth, now: datetime) -> tuple[int, datetime | None]:
    """The oldest open place and since when it waits. Places get done from the oldest on, so the last known one is a
    good place to begin; once an hour from the first again, for those that were given back."""
    whole = row.counted_at is None or row.mark == "" or row.counted_at.hour != now.hour
    places = Slot.objects.filter(project=project, state=Slot.State.OPEN, reserved_for=None)
    found = places.filter(pk__gte=0 if whole else row.oldest_slot).order_by("pk")
    return found.values_list("pk", "comparison__created_at").first() or (0, None)


def count_batches(project: Project, now: datetime) -> None:
    found = {batch: QueueHealth(project=project, batch_id=batch) for batch in _batches(project)}
    for batch, *numbers in _rows(BATCHES, project) if found else ():
        row = found.setdefault(batch, QueueHealth(project=project, batch_id=batch))
        row.open, row.leased, row.lapsed, row.reserved, row.done = numbers
    for row in found.values():
        row.counted_at = row.checked_at = now
    fields = ["open", "leased", "lapsed", "reserved", "done", "counted_at", "checked_at"]
    QueueHealth.objects.bulk_create(
        found.values(), update_conflicts=True, unique_fields=["project", "batch"], update_fields=fields
    )


def _batches(project: Project) -> list[int]:
    return list(Batch.objects.filter(project=project).values_list("pk", flat=True))


def count_hours(project: Project, now: datetime) -> None:
    """Judgments an hour, from the last hour that is known on: it may have been going on, or the worker was away."""
    last = WorkHour.objects.filter(project=project).order_by("-hour").values_list("hour", flat=True).first()
    since = max(filter(None, [last and last - timedelta(hours=1), now - HOURS_KEPT]))
    since = since.replace(minute=0, second=0, microsecond=0)
    _run(HOURS, project, since=since, day=since.date())
    WorkHour.objects.filter(project=project, hour__lt=now - HOURS_KEPT - timedelta(days=1)).delete()


def _rows(query: str, project: Project, **values) -> list[tuple]:
    with connection.cursor() as cursor:
        cursor.execute(query, values | {"project": project.pk})
        return cursor.fetchall()


def _run(query: str, project: Project, **values) -> None:
    with connection.cursor() as cursor:
        cursor.execute(query, values | {"project": project.pk})
