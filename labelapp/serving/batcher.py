"""The thread that owns the models: admits rows between steps, steps every version in turn, lets rows leave at once."""

import threading
from collections import deque
from collections.abc import Callable
from typing import Any, Protocol

import structlog

from labelapp.serving.errors import ApiError, engine_failed
from labelapp.serving.rows import Row

log = structlog.get_logger(__name__)


class Steps(Protocol):
    """What the batcher needs of a loaded version."""

    def admit(self, rows: list[Row]) -> None: ...
    def step(self) -> None: ...
    def abandon(self) -> None: ...


class Work:
    """The rows of one request for one version, and who hears of a failure."""

    def __init__(self, loaded: Steps, rows: list[Row], fail: Callable[[ApiError], Any]) -> None:
        self.loaded, self.rows, self.fail = loaded, rows, fail

    def cancel(self) -> None:
        """Nobody listens any more: the rows leave before the next step."""
        for row in self.rows:
            row.cancelled = True

    @property
    def over(self) -> bool:
        return all(row.gone for row in self.rows)


class Batcher(threading.Thread):
    """At most `active` rows are decoded at once and at most `waiting` queue for a place; more is refused at once."""

    def __init__(self, *, active: int, waiting: int) -> None:
        super().__init__(name="batcher", daemon=True)
        self.active, self.waiting = active, waiting
        self.queue: deque[Work] = deque()
        self.running: list[Work] = []
        self.changed = threading.Condition()
        self.stopping = False
        self.steps = self.tokens = 0

    def submit(self, work: Work) -> None:
        """Queue a request. Raises ApiError 429 at once when its rows do not fit."""
        with self.changed:
            if self.stopping:
                raise ApiError(503, "shutting_down", "The engine is shutting down.", retry_after=2)
            if self.load() + len(work.rows) > self.active + self.waiting:
                message = "The engine's queue is full. Try again in a moment."
                raise ApiError(429, "rate_limit_exceeded", message, retry_after=1)
            self.queue.append(work)
            self.changed.notify()

    def load(self) -> int:
        """Rows that are decoded or wait."""
        return sum(not row.gone for work in [*self.queue, *self.running] for row in work.rows)

    def drain(self, seconds: float) -> None:
        """Take nothing new, give what runs some time, then end the thread."""
        with self.changed:
            self.stopping = True
            self.changed.wait_for(lambda: not self.queue and not self.running, timeout=seconds)
            self.changed.notify_all()

    def run(self) -> None:
        while self.wait_for_work():
            for admitted in self.admissible():
                self.guard(admitted.loaded, self.admit, admitted)
            for loaded in unique(work.loaded for work in self.running):
                self.guard(loaded, self.step, loaded)
            self.forget_finished()

    def wait_for_work(self) -> bool:
        with self.changed:
            self.changed.wait_for(lambda: self.queue or self.running or self.stopping)
            return bool(self.queue or self.running)

    def admissible(self) -> list[Work]:
        """Requests whose turn has come, in order of arrival; a large one waits for room and nobody overtakes it."""
        with self.changed:
            taken = []
            busy = sum(not row.gone for work in self.running for row in work.rows)
            while self.queue and (busy == 0 or busy + len(self.queue[0].rows) <= self.active):
                work = self.queue.popleft()
                busy += len(work.rows)
                taken.append(work)
            self.running += taken
            return taken

    def admit(self, work: Work) -> None:
        work.loaded.admit([row for row in work.rows if not row.gone])

    def step(self, loaded: Steps) -> None:
        loaded.step()
        self.steps += 1

    def guard(self, loaded: Steps, action: Callable[[Any], None], subject: Any) -> None:
        """A failure ends the requests of that version, not the thread, and not another version's requests."""
        try:
            action(subject)
        except Exception:
            log.exception("a version failed while answering")
            loaded.abandon()
            for work in self.running:
                if work.loaded is loaded and not work.over:
                    work.cancel()
                    work.fail(engine_failed())

    def forget_finished(self) -> None:
        with self.changed:
            self.tokens += sum(len(row.ids) for work in self.running if work.over for row in work.rows)
            self.running = [work for work in self.running if not work.over]
            self.queue = deque(work for work in self.queue if not work.over)
            if not self.running and not self.queue:
                self.changed.notify_all()


def unique(items) -> list:
    return list({id(item): item for item in items}.values())
