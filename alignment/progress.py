"""What a stage that only measures says while it works, and how it stops."""

from __future__ import annotations

import time
from collections import defaultdict

from alignment import dry
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
        self.job, self.last = job, ("", 0.0)
        self.seconds: dict[str, list[float]] = defaultdict(list)  # of a phase, between two of its pieces
        self.taken: dict[str, int] = defaultdict(int)

    def tick(self, pieces: int, name: str, **values: float) -> None:
        """One more piece is done; `pieces` of this phase follow it."""
        self.done += 1
        self.taken[name] += 1
        before, self.last = self.last, (name, time.monotonic())
        if before[0] == name:  # not so between phases, where models are loaded
            self.seconds[name].append(self.last[1] - before[1])
        self.metrics.steps = self.done + pieces + self.later
        self.metrics.write(self.done, phase=name, **values)
        if self.stop.requested:
            raise Stopped(f"stopped while measuring: {name}")

    def left_out(self, names: list[str], *, whole: int, taken: int) -> None:
        """Say that a dry run did `taken` of `whole` items in the phases of these names; nothing in any other run."""
        if not self.job.dry_run:
            return
        more = whole / max(1, taken) - 1
        seconds = {name: dry.mean(self.seconds[name]) for name in names}
        pieces = sum(self.taken[name] for name in names)
        left_out = sum(seconds[name] * self.taken[name] * more for name in names)
        usual = sum(seconds[name] * self.taken[name] for name in names) / max(1, pieces)
        steps = self.done + round(pieces * more)
        dry.note(self.job.output, steps=steps, taken=self.done, step_seconds=usual, left_out=left_out)
