"""One change of many comparisons: what was ordered, what it would do, and doing it in one transaction.

Places are changed before comparisons, as a submit locks them. A change that meets a deadlock all the same ends as
failed, and nothing is changed.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

from django.db import DatabaseError, connection, transaction
from django.db.models import QuerySet
from django.db.models.expressions import RawSQL
from django.db.models.functions import Now
from django.utils import timezone
from django.utils.translation import gettext as _

from labelapp.celery import app
from labelapp.datasets.filters import COUNTED, matching
from labelapp.labeling.batches import assign_to_batch, create_batch, set_deadline
from labelapp.labeling.overview.counting import recount_soon
from labelapp.labeling.quality.reask import reask, why_none
from labelapp.labeling.refusals import Refusal
from labelapp.models import Batch, BulkChange, Comparison, Judgment, Project, Slot, User

UNANSWERED = [Slot.State.OPEN, Slot.State.LEASED]
VOTES = "purpose IN ('', 'reask', 'returned')"
WORKED = "c.gold IS NULL AND c.repeats_id IS NULL"  # the others check people: their places are not for everybody

TOO_MANY = f"""
UPDATE labelapp_slot SET state = 'closed' WHERE id IN (
  SELECT slot.id FROM labelapp_slot slot JOIN (
    SELECT s.id, row_number() OVER (PARTITION BY s.comparison_id ORDER BY s.number DESC) AS nth,
      (SELECT count(*) FROM labelapp_slot v WHERE v.comparison_id = s.comparison_id AND v.{VOTES}
         AND v.state <> 'closed') - %(overlap)s AS surplus
    FROM labelapp_slot s JOIN bulk_picked p ON p.id = s.comparison_id
    WHERE s.state = 'open' AND s.purpose = '') ranked ON ranked.id = slot.id
  WHERE ranked.nth <= ranked.surplus AND slot.state = 'open' FOR UPDATE OF slot SKIP LOCKED)
"""
REOPEN = f"""
UPDATE labelapp_slot SET state = 'open' WHERE id IN (
  SELECT ranked.id FROM (
    SELECT s.id, row_number() OVER (PARTITION BY s.comparison_id ORDER BY s.number) AS nth,
      c.overlap - (SELECT count(*) FROM labelapp_slot v WHERE v.comparison_id = s.comparison_id AND v.{VOTES}
         AND v.state <> 'closed') AS missing
    FROM labelapp_slot s JOIN bulk_picked p ON p.id = s.comparison_id JOIN labelapp_comparison c ON c.id = p.id
    WHERE s.state = 'closed' AND s.purpose = '' AND {WORKED}) ranked
  WHERE ranked.nth <= ranked.missing)
"""
# New places go on in the counter-balanced order: each shows the first place's order turned by one more step.
MISSING = f"""
INSERT INTO labelapp_slot (comparison_id, project_id, number, priority, shuffle_key, state, display_order, requires,
  purpose, note)
SELECT m.id, m.project_id, m.last + n, m.priority, floor(random() * 4294967296)::bigint - 2147483648, 'open',
  CASE WHEN m.size = 0 THEN '{{}}'
    ELSE m.base[(m.votes + n - 1) %% m.size + 1 :] || m.base[: (m.votes + n - 1) %% m.size] END,
  m.requires, '', ''
FROM (
  SELECT c.id, c.project_id, c.requires, COALESCE(b.priority, 0) AS priority, places.votes, places.last,
    places.standing, size.n AS size, COALESCE(places.base, turned.base) AS base
  FROM bulk_picked p JOIN labelapp_comparison c ON c.id = p.id LEFT JOIN labelapp_batch b ON b.id = c.batch_id
  CROSS JOIN LATERAL (
    SELECT count(*) FILTER (WHERE s.{VOTES}) AS votes, COALESCE(max(s.number), -1) AS last,
      count(*) FILTER (WHERE s.{VOTES} AND s.state <> 'closed') AS standing,
      (array_agg(s.display_order::text ORDER BY s.number) FILTER (WHERE s.{VOTES}))[1]::smallint[] AS base
    FROM labelapp_slot s WHERE s.comparison_id = c.id) places
  CROSS JOIN LATERAL (
    SELECT count(*)::int AS n FROM labelapp_comparisoncompletion cc WHERE cc.comparison_id = c.id) size
  CROSS JOIN LATERAL (
    SELECT array_agg(position ORDER BY random())::smallint[] AS base FROM labelapp_comparisoncompletion cc
    WHERE cc.comparison_id = c.id) turned
  WHERE {WORKED}) m
CROSS JOIN LATERAL generate_series(1, %(overlap)s - m.standing) AS n
"""


class BulkRefused(Exception):
    """An expected no, said to a person."""


def picked_rows(project: Project, picked: Mapping[str, Any]) -> QuerySet[Comparison]:
    """The comparisons of {"ids": [...]} or {"filter": {...}}, of this project alone."""
    if "ids" in picked:
        return Comparison.objects.filter(project=project, pk__in=picked["ids"])
    return matching(project, picked["filter"])


def order_change(
    *, project: Project, by: User, picked: dict, order: dict, expected: int, submission: str
) -> BulkChange:
    """Write the change down and do it: now up to 10,000 comparisons, or else in the background. A replay of the same
    submission returns what was ordered. A refusal stands in the change's own row."""
    change, is_new = BulkChange.objects.get_or_create(
        submission_id=submission,
        defaults={"project": project, "by": by, "picked": picked, "order": order, "expected": expected},
    )
    if change.project_id != project.pk:
        raise BulkRefused(_("This change was ordered in another project. Start again from the list."))
    if not is_new:
        return change
    if expected > COUNTED:
        transaction.on_commit(lambda: app.send_task("labelapp.tasks.change_comparisons", [change.pk]))
        return change
    return run_change(change.pk)


def run_change(change_id: int) -> BulkChange:
    """Do what was ordered, once. Its row is locked until then: whoever comes second leaves it, and a worker that dies
    leaves it waiting."""
    with transaction.atomic():
        waiting = BulkChange.objects.filter(pk=change_id, state=BulkChange.State.WAITING).select_related("project")
        change = waiting.select_for_update(of=("self",), skip_locked=True).first()
        if change is None:
            return BulkChange.objects.get(pk=change_id)
        change.state, change.outcome = attempt(change)
        change.ended_at = timezone.now()
        change.save(update_fields=["state", "outcome", "ended_at"])
        return change


def attempt(change: BulkChange) -> tuple[str, str]:
    """The state it ends in, and the sentence. All or nothing."""
    try:
        with transaction.atomic():
            return BulkChange.State.DONE, apply_order(change)
    except (BulkRefused, Refusal) as refusal:
        return BulkChange.State.REFUSED, str(refusal)
    except DatabaseError as error:
        reason = str(error).splitlines()[0]
        return BulkChange.State.FAILED, _("Nothing was changed: %(reason)s. Order it again.") % {"reason": reason}


def run_left_behind() -> None:
    """Do what was ordered more than a minute ago and not begun: its message was lost, or its worker."""
    old = BulkChange.objects.filter(state=BulkChange.State.WAITING, created_at__lt=Now() - timedelta(minutes=1))
    for pk in old.values_list("pk", flat=True):
        run_change(pk)


def apply_order(change: BulkChange) -> str:
    """What was done, in a sentence. Raises BulkRefused where the filter matches another number than was confirmed."""
    found = pick(picked_rows(change.project, change.picked))
    if found != change.expected:
        raise BulkRefused(
            _("%(found)s comparisons match now, not %(expected)s as confirmed. Look at the list and confirm again.")
            % {"found": f"{found:,}", "expected": f"{change.expected:,}"}
        )
    done = ACTIONS[change.order["action"]](change.project, change.order)
    recount_soon(change.project)
    change.project.look_again()
    return done


def pick(rows: QuerySet[Comparison]) -> int:
    """Put the ids aside, in this transaction alone: the filter is asked once, whatever the change does to it."""
    query, values = rows.order_by().values("pk").query.sql_with_params()
    with connection.cursor() as cursor:
        cursor.execute("DROP TABLE IF EXISTS bulk_picked")
        cursor.execute(f"CREATE TEMPORARY TABLE bulk_picked (id) ON COMMIT DROP AS {query}", values)
        cursor.execute("ALTER TABLE bulk_picked ADD PRIMARY KEY (id)")
        cursor.execute("ANALYZE bulk_picked")
        cursor.execute("SELECT count(*) FROM bulk_picked")
        return cursor.fetchone()[0]


def picked_comparisons() -> QuerySet[Comparison]:
    return Comparison.objects.filter(pk__in=RawSQL("SELECT id FROM bulk_picked", []))


def picked_slots(*states: str) -> QuerySet[Slot]:
    return Slot.objects.filter(comparison__in=RawSQL("SELECT id FROM bulk_picked", []), state__in=states)


def execute(query: str, **values) -> int:
    with connection.cursor() as cursor:
        cursor.execute(query, values)
        return cursor.rowcount


def set_priority(project: Project, order: dict) -> str:
    places = picked_slots(*UNANSWERED).update(priority=order["priority"])
    return _("Priority %(priority)s: %(places)s places.") % {"priority": order["priority"], "places": f"{places:,}"}


def put_into_batch(project: Project, order: dict) -> str:
    batch = batch_of(project, order)
    moved = assign_to_batch(picked_comparisons(), batch)
    if batch is None:
        return _("%(moved)s comparisons are in no batch now.") % {"moved": f"{moved:,}"}
    return _("%(moved)s comparisons are in the batch %(batch)s now.") % {"moved": f"{moved:,}", "batch": batch.name}


def batch_of(project: Project, order: dict) -> Batch | None:
    """The batch that was chosen, with its new deadline if one was given, or a new one. Raises BadBatch."""
    deadline = order.get("deadline") and datetime.fromisoformat(order["deadline"])
    if order.get("new"):
        return create_batch(project=project, name=order["new"], priority=order.get("priority") or 0, deadline=deadline)
    if not order.get("batch"):
        return None
    batch = Batch.objects.filter(project=project, pk=order["batch"]).first()
    if batch is None:
        raise BulkRefused(_("The batch is gone. Choose another one."))
    if deadline:
        set_deadline(batch, deadline)
    return batch


def require_tags(project: Project, order: dict) -> str:
    places = picked_slots(*UNANSWERED, Slot.State.CLOSED).update(requires=order["tags"])
    rows = picked_comparisons().update(requires=order["tags"])
    tags = ", ".join(order["tags"]) or _("no tag")
    return _("%(rows)s comparisons with %(places)s places left require %(tags)s.") % {
        "rows": f"{rows:,}", "places": f"{places:,}", "tags": tags
    }  # fmt: skip


def set_overlap(project: Project, order: dict) -> str:
    """As many places as ordered where that can be: closed ones open again before new ones are made; only open ones
    close. Gold and swapped repeats keep their places."""
    overlap = {"overlap": order["overlap"]}
    list(picked_comparisons().order_by("pk").select_for_update(no_key=True).values_list("pk", flat=True).iterator())
    closed = execute(TOO_MANY, **overlap)
    rows = picked_comparisons().update(**overlap)
    opened = execute(REOPEN) + execute(MISSING, **overlap)
    numbers = {"rows": f"{rows:,}", "n": order["overlap"], "opened": f"{opened:,}", "closed": f"{closed:,}"}
    return _("Overlap %(n)s for %(rows)s comparisons: %(opened)s places opened, %(closed)s closed.") % numbers


def close_places(project: Project, order: dict) -> str:
    places = picked_slots(Slot.State.OPEN).filter(purpose=Slot.Purpose.WORK)
    locked = places.select_for_update(skip_locked=True).values("pk")  # who takes one at this moment keeps it
    closed = Slot.objects.filter(pk__in=locked).update(state=Slot.State.CLOSED)
    return _("%(closed)s open places closed.") % {"closed": f"{closed:,}"}


def reopen_places(project: Project, order: dict) -> str:
    return _("%(opened)s closed places opened.") % {"opened": f"{execute(REOPEN):,}"}


def ask_again(project: Project, order: dict) -> str:
    standing = Judgment.objects.standing().filter(comparison__in=picked_comparisons())
    asked = reask(judgments=standing, note=order["note"])
    if not asked:
        return why_none(standing)
    return _("%(asked)s answers are asked again, of their labelers.") % {"asked": f"{asked:,}"}


ACTIONS = {
    "priority": set_priority,
    "batch": put_into_batch,
    "tags": require_tags,
    "overlap": set_overlap,
    "close": close_places,
    "reopen": reopen_places,
    "reask": ask_again,
}


def effects(project: Project, picked: Mapping[str, Any], order: Mapping[str, Any]) -> tuple[int, Sequence[str]]:
    """How many comparisons, and what would change, in sentences; nothing is changed."""
    rows = picked_rows(project, picked)
    expected = rows.order_by().count()
    places = Slot.objects.filter(comparison__in=rows.order_by().values("pk"), purpose=Slot.Purpose.WORK)
    states = count_states(places)
    return expected, [sentence % {key: f"{n:,}" for key, n in states.items()} for sentence in SAID[order["action"]]()]


def count_states(places: QuerySet[Slot]) -> dict[str, int]:
    with connection.cursor() as cursor:
        query, values = places.order_by().values("state").query.sql_with_params()
        cursor.execute(f"SELECT state, count(*) FROM ({query}) places GROUP BY state", values)
        return dict.fromkeys(Slot.State.values, 0) | dict(cursor.fetchall())


SAID = {
    "priority": lambda: [_("%(open)s open places and %(leased)s that are being judged get it; answered ones stay.")],
    "batch": lambda: [_("%(open)s open places and %(leased)s that are being judged get the batch's priority.")],
    "tags": lambda: [
        _("%(open)s open places go only to people with the tags; %(leased)s that are being judged stay with them.")
    ],
    "overlap": lambda: [
        _("Now: %(open)s open, %(leased)s being judged, %(done)s answered, %(closed)s closed places."),
        _("Missing places are opened; of too many only open ones close. Gold and swapped repeats stay as they are."),
    ],
    "close": lambda: [_("%(open)s open places close; %(leased)s that are being judged may be answered still.")],
    "reopen": lambda: [_("Of %(closed)s closed places those open again that the overlap asks for.")],
    "reask": lambda: [_("Up to %(done)s answers are asked again, each of its own labeler; they stand until then.")],
}
