"""The thread that keeps a lease while the trainer works, and the watchdog that fences when it cannot."""

import os
import signal
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import Protocol

import structlog
from django.db import DatabaseError, InterfaceError, close_old_connections, connection

from labelapp.rounds.lease import BEAT_SECONDS, FENCE_SECONDS, Claim, beat

log = structlog.get_logger(__name__)


class Heartbeat:
    """Beats from its own thread and connection. `lost` is set when the round is no longer ours or cannot be kept.

    The watchdog is a timer that each beat winds up again. It asks no database, so that a hanging one cannot stop it.
    """

    def __init__(self, held: Claim):
        self.held = held
        self.lost = threading.Event()
        self._stop = threading.Event()
        self._child: Guarded | None = None
        self._watchdog: threading.Timer | None = None
        self._thread = threading.Thread(target=self._run, name=f"heartbeat-{held.round_id}", daemon=True)

    def __enter__(self) -> "Heartbeat":
        self._wind()
        self._thread.start()
        return self

    def __exit__(self, *_) -> None:
        self._stop.set()
        self._thread.join(timeout=FENCE_SECONDS)
        self._watchdog.cancel()

    def guard(self, child: "Guarded | None") -> None:
        """Name the trainer that must not outlive the lease, and that hears of every beat."""
        self._child = child

    def fence(self, reason: str = "no heartbeat in time") -> None:
        """Stop writing and kill the trainer: someone else may take the round from now on."""
        log.warning("fenced", round=self.held.round_id, token=self.held.token, reason=reason)
        self.lost.set()
        if child := self._child:
            child.cut()

    def _wind(self) -> None:
        if self._watchdog:
            self._watchdog.cancel()
        self._watchdog = threading.Timer(FENCE_SECONDS, self.fence)
        self._watchdog.daemon = True
        self._watchdog.start()

    def _run(self) -> None:
        try:
            while not self._stop.wait(BEAT_SECONDS):
                if not self._beat():
                    return
        finally:
            connection.close()

    def _beat(self) -> bool:
        """One beat; False ends the thread. A database that is away is asked again until the watchdog barks."""
        try:
            close_old_connections()
            kept = beat(self.held)
        except (DatabaseError, InterfaceError) as error:
            log.warning("heartbeat failed", round=self.held.round_id, error=str(error))
            return not self.lost.is_set()
        if kept and not self.lost.is_set():
            self._wind()
            if child := self._child:
                child.pulse()
            return True
        if not self._stop.is_set():
            self.fence("the round is no longer ours")
        return False


class Guarded(Protocol):
    """A trainer, as a heartbeat sees it."""

    def cut(self) -> None: ...

    def pulse(self) -> None: ...


def never() -> bool:
    return False


Question = Callable[[], bool]


def kill_group(process_group: int, sig: int = signal.SIGKILL) -> None:
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(process_group, sig)
