"""`python -m alignment tensorboard RUN LOGS`: the metrics.jsonl of runs as TensorBoard's event files."""

from __future__ import annotations

from pathlib import Path

from alignment.config import JobError
from alignment.data.rows import read_jsonl


def export(run: str | Path, logs: str | Path) -> list[Path]:
    """Write one log a run: every metrics.jsonl below `run`, every number by its name and step.

    A step that a resumed attempt wrote again shows its latest figure. Raises JobError where there is nothing to show
    or the package tensorboard is missing.
    """
    found = sorted(Path(run).rglob("metrics.jsonl"))
    if not found:
        raise JobError(f"there is no metrics.jsonl below {run}; name the output directory of a run")
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError as error:
        remedy = "pip install 'labelapp[tensorboard]'"
        raise JobError(f"the package tensorboard is not installed ({error}); {remedy}") from error
    made = []
    for path in found:
        made.append(Path(logs) / path.parent.relative_to(run))
        with SummaryWriter(str(made[-1])) as writer:
            for tag, step, value, seconds in scalars(path):
                writer.add_scalar(tag, value, step, walltime=seconds)
    return made


def scalars(path: Path) -> list[tuple[str, int, float, float]]:
    """(name, step, value, Unix time in seconds) of every number, in the order of the steps."""
    rows = {row["step"]: row for _, row in read_jsonl(path, "metrics") if "step" in row}
    last = max((row.get("seconds", 0.0) for row in rows.values()), default=0.0)
    began = path.stat().st_mtime - last  # a row says its seconds since the beginning; the file was written at the end
    return [
        (name, step, float(value), began + row.get("seconds", 0.0))
        for step, row in sorted(rows.items())
        for name, value in row.items()
        if name not in {"step", "steps", "seconds"} and isinstance(value, int | float)
    ]
