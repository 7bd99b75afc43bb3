"""Dry runs: a few real steps of a stage, and from them how long the whole stage would take on this machine.

A stage that runs dry does everything as always, only less of what repeats: it reads all its inputs, takes a few steps
or answers a few prompts, measures, writes its checkpoint. So it holds what the real run holds, but for batches of
longer texts that come later, and stages that follow have something to run dry on. What was left out is written down
here; result.json says what that comes to.
"""

from __future__ import annotations

import json
import resource
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

NOTE = "dry.json"
FEWEST_STEPS = 3


class Timing:
    """Seconds of each step, measurement and saved state of a training loop that runs dry."""

    def __init__(self) -> None:
        self.steps: list[float] = []
        self.watches: list[float] = []
        self.saves: list[float] = []


class Whole(NamedTuple):
    """How often the whole run would do each."""

    steps: int
    watches: int
    saves: int


def left_out_seconds(timing: Timing, whole: Whole, *, warm: bool) -> float:
    """What the whole run would take beyond the dry one: for each kind, how often it was left out times its mean.

    Args:
        warm: the first step is left out of the mean of the steps, as it allocates what the others reuse. Not so where
            the first step is of another kind than those after it, as it samples for them.
    """
    steps = timing.steps[1:] if warm and len(timing.steps) > 1 else timing.steps
    return sum(
        max(0, count - len(taken)) * mean(seconds)
        for count, taken, seconds in (
            (whole.steps, timing.steps, steps),
            (whole.watches, timing.watches, timing.watches),
            (whole.saves, timing.saves, timing.saves),
        )
    )


def mean(values: list[float]) -> float:
    return sum(values) / len(values) if values else 0.0


def note(output: str | Path, *, steps: int, taken: int, step_seconds: float, left_out: float) -> None:
    """Say what a stage left out. A step is an optimizer step, or of a stage that trains nothing one piece of work."""
    found = {"steps": steps, "taken": taken, "step_seconds": step_seconds}
    leave_out(output, left_out, **found)


def leave_out(output: str | Path, seconds: float, **more: float) -> None:
    """Add seconds to what was left out so far."""
    path = Path(output) / NOTE
    found = json.loads(path.read_text()) if path.is_file() else {"left_out_seconds": 0.0}
    path.write_text(json.dumps(found | more | {"left_out_seconds": found["left_out_seconds"] + seconds}))


def noted(output: str | Path, seconds: float) -> dict[str, Any]:
    """What result.json says of a dry run that took so many seconds; a stage that left nothing out was the whole."""
    path = Path(output) / NOTE
    found = json.loads(path.read_text()) if path.is_file() else {}
    found = {"steps": 0, "taken": 0, "step_seconds": 0.0, "left_out_seconds": 0.0} | found
    return found | {"whole_seconds": seconds + found["left_out_seconds"]}


@contextmanager
def timed(seconds: list[float]) -> Iterator[None]:
    """Append how long the block takes."""
    started = time.monotonic()
    yield
    seconds.append(time.monotonic() - started)


def footprint() -> dict[str, Any]:
    """What this process took: {"peak_bytes"} of memory, and on a GPU its name and {"device_peak_bytes"} of its own."""
    found: dict[str, Any] = {"peak_bytes": peak_bytes(), "device": "cpu"}
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_available():
        found |= {"device": torch.cuda.get_device_name(), "device_peak_bytes": torch.cuda.max_memory_allocated()}
    return found


def peak_bytes() -> int:
    """The most memory that this process held at once.

    Linux's own count of this program comes first: getrusage would also count what the parent held when it started it.
    """
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM:"))
    except (OSError, StopIteration):
        most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return most if sys.platform == "darwin" else most * 1024
