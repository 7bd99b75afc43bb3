"""metrics.jsonl: what a run says of itself while it runs."""

from __future__ import annotations

import json
import resource
import sys
import time
from pathlib import Path

from alignment import devices


class Metrics:
    """metrics.jsonl of one attempt: a flushed line a step. Of several ranks the first writes it."""

    def __init__(self, output: str | Path, steps: int, seconds: float = 0.0) -> None:
        Path(output).mkdir(parents=True, exist_ok=True)
        self.stream = open(Path(output) / "metrics.jsonl", "a", buffering=1)
        self.steps = steps
        self.started = time.monotonic() - seconds
        self.told = 0.0

    @property
    def seconds(self) -> float:
        """Seconds since the run began, earlier attempts included."""
        return time.monotonic() - self.started

    def write(self, step: int, **values: float) -> None:
        """One line after `step` finished steps; units are in the names."""
        if not devices.leads():
            return
        measured = {"seconds": round(self.seconds, 3), "memory_mib": round(peak_memory_mib())}
        row = {"step": step, "steps": self.steps, **measured, **values}
        self.stream.write(json.dumps(row) + "\n")
        self._tell(step, values)

    def _tell(self, step: int, values: dict[str, float]) -> None:
        """A line for a person who follows the log: the first step, the last, and about one a second between."""
        now = time.monotonic()
        if now - self.told >= 1 or step == self.steps:
            self.told = now
            numbers = {name: value for name, value in values.items() if isinstance(value, int | float)}
            figures = "  ".join(f"{name} {value:.4g}" for name, value in numbers.items())
            print(f"{self.seconds:8.1f} s  step {step} of {self.steps}  {figures}", flush=True)


def peak_memory_mib() -> float:
    """The most of the machine's memory that this process has held so far, in MiB; a GPU's is not in it."""
    unit = 1 if sys.platform == "darwin" else 1024  # bytes a unit of ru_maxrss (getrusage(2))
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 2**20
