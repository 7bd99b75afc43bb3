"""The index of what a snapshot holds: runs of judgment ids, and where those judgments came from."""

import json
from collections.abc import Iterable, Iterator
from pathlib import Path

from django.db import connection, transaction
from django.db.models import QuerySet
from django.db.models.expressions import RawSQL

from labelapp.models import Judgment, Project, Snapshot, SnapshotSpan

SOURCES = """
INSERT INTO labelapp_snapshotsource (snapshot_id, origin, round_id, versions, comparisons, judgments)
SELECT %(snapshot)s, origin, round_id, coalesce(versions, '{}'), count(*), sum(judgments)
FROM (
  SELECT judgment.comparison_id, count(*) AS judgments
  FROM labelapp_snapshotspan span JOIN labelapp_judgment judgment ON judgment.id BETWEEN span.first AND span.last
  WHERE span.snapshot_id = %(snapshot)s
  GROUP BY judgment.comparison_id
) held
JOIN labelapp_comparison comparison ON comparison.id = held.comparison_id
LEFT JOIN (
  SELECT place.comparison_id, array_agg(DISTINCT completion.version_id ORDER BY completion.version_id) AS versions
  FROM labelapp_completion completion
  JOIN labelapp_comparisoncompletion place ON place.completion_id = completion.id
  WHERE completion.version_id IN (SELECT id FROM labelapp_version WHERE project_id = %(project)s)
  GROUP BY place.comparison_id
) written ON written.comparison_id = held.comparison_id
GROUP BY origin, round_id, versions
"""
HELD = """(
  SELECT judgment.id FROM labelapp_snapshotspan span
  JOIN labelapp_judgment judgment ON judgment.id BETWEEN span.first AND span.last
  WHERE span.snapshot_id = ANY(%s)
)"""


def runs(ids: Iterable[int]) -> Iterator[tuple[int, int]]:
    """(first, last) of each run of consecutive numbers in ascending order; every number lies in one run."""
    first = last = None
    for number in sorted(ids):
        if last is not None and number <= last + 1:
            last = number
            continue
        if last is not None:
            yield first, last
        first = last = number
    if last is not None:
        yield first, last


@transaction.atomic
def index_snapshot(snapshot: Snapshot, judgments: Iterable[int]) -> None:
    """Write down which judgments the snapshot holds. It is indexed once: a second time changes nothing."""
    Snapshot.objects.select_for_update(no_key=True).get(pk=snapshot.pk)
    if snapshot.spans.exists():
        return
    spans = (SnapshotSpan(snapshot=snapshot, first=first, last=last) for first, last in runs(judgments))
    SnapshotSpan.objects.bulk_create(spans, batch_size=5000)
    with connection.cursor() as cursor:
        cursor.execute(SOURCES, {"snapshot": snapshot.pk, "project": snapshot.project_id})


def index_earlier(project: Project) -> None:
    """Index the snapshots that were frozen before there was an index, from their files; those without files stay."""
    for snapshot in project.snapshots.filter(judgments__gt=0, spans__isnull=True):
        if (path := Path(snapshot.path) / "judgments.jsonl").is_file():
            with path.open() as lines:
                named = {row["judgment"] for row in map(json.loads, lines) if "judgment" in row}
            own = Judgment.objects.filter(comparison__project=project, pk__in=named)
            index_snapshot(snapshot, own.values_list("pk", flat=True))


def holding(judgments: Iterable[int]) -> dict[int, set[int]]:
    """The keys of the snapshots that hold each of the judgments; a judgment that none holds is absent."""
    found: dict[int, set[int]] = {}
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT wanted.id, span.snapshot_id FROM unnest(%s::bigint[]) AS wanted(id) "
            "JOIN labelapp_snapshotspan span ON wanted.id BETWEEN span.first AND span.last",
            [list(judgments)],
        )
        for judgment, snapshot in cursor.fetchall():
            found.setdefault(judgment, set()).add(snapshot)
    return found


def held_by(snapshots: Iterable[int]) -> QuerySet[Judgment]:
    """The judgments that at least one of the snapshots holds, each once."""
    return Judgment.objects.filter(pk__in=RawSQL(HELD, [list(snapshots)]))
