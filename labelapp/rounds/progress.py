"""From metrics.jsonl to rows: what the page and the event stream read."""

from typing import Any

from django.db.models import Max

from labelapp.models import MetricRow, Stage
from labelapp.rounds.trainer import read_json


def parse(lines: list[str]) -> dict[int, dict[str, Any]]:
    """Metrics by step; a line that is no object with a step is left out, two lines of one step are merged."""
    by_step: dict[int, dict[str, Any]] = {}
    for line in lines:
        try:
            row = read_json(line)
        except ValueError:
            continue
        if isinstance(row, dict) and isinstance(row.get("step"), int) and row["step"] >= 0:
            by_step[row["step"]] = by_step.get(row["step"], {}) | row
    return by_step


def store(stage: Stage, by_step: dict[int, dict[str, Any]], *, first_batch: bool) -> None:
    """Write the rows and the stage's position; call it in a fenced transaction.

    A resumed attempt runs some steps again: the old rows from there on are deleted, not updated, so that ids only grow
    and a stream that reads "behind id N" misses nothing.
    """
    if not by_step:
        return
    if first_batch:
        stage.metric_rows.filter(step__gte=min(by_step)).delete()
    MetricRow.objects.bulk_create(
        [MetricRow(stage=stage, step=step, values=values) for step, values in sorted(by_step.items())],
        update_conflicts=True,
        unique_fields=["stage", "step"],
        update_fields=["values"],
    )
    last = by_step[max(by_step)]
    steps = last.get("steps")
    stage.step, stage.steps = max(by_step), steps if isinstance(steps, int) else stage.steps
    stage.save(update_fields=["step", "steps"])


def store_missing(stage: Stage, by_step: dict[int, dict[str, Any]]) -> None:
    """Write the rows behind the last one that is stored; call it in a fenced transaction."""
    known = stage.metric_rows.aggregate(last=Max("step"))["last"] or -1
    store(stage, {step: values for step, values in by_step.items() if step > known}, first_batch=False)
