"""What a stage that only measures says while it works, and how it stops."""

from __future__ import annotations

from alignment.config import Job, Stopped
from alignment.loop import StopSignal
from alignment.metrics import Metrics


class Progress:
    """One line of metrics.jsonl a piece of work. Obeys SIGTERM between two.

    An evaluation has no state to resume: it is started again.
    """

    later = 0  # pieces known to come after those of the present phase

    def __init__(self, job: Job) -> None:
        self.stop, self.metrics, self.done = StopSignal(), Metrics(job.output, 0), 0

    def tick(self, pieces: int, name: str, **values: float) -> None:
        """One more piece is done; `pieces` of this phase follow it."""
        self.done += 1
        self.metrics.steps = self.done + pieces + self.later
        self.metrics.write(self.done, phase=name, **values)
        if self.stop.requested:
            raise Stopped(f"stopped while measuring: {name}")
