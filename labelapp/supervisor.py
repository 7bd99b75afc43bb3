"""Keeps a set of processes running as one tree, and ends all of it."""

import contextlib
import ctypes
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field

import psutil

PR_SET_CHILD_SUBREAPER = 36
POLL_SECONDS = 0.3
CALM_SECONDS = 30  # a process that lived this long starts its back-off anew
LONGEST_BACKOFF = 30
EMBEDDED = {"postgres", "valkey-server"}  # they end later, and only when nobody else uses them
libc = ctypes.CDLL(None) if sys.platform == "linux" else None


@dataclass
class Child:
    """One process to keep running. It calls labelapp.leash, so that it ends also when its supervisor is killed."""

    name: str
    command: list[str]
    environ: dict[str, str] = field(default_factory=dict)
    grace: float = 10.0  # seconds between asking it to end and killing it
    process: subprocess.Popen | None = None
    started: float = 0.0
    backoff: float = 1.0

    def start(self, cwd) -> None:
        """Start it in a session of its own: the terminal's Ctrl-C reaches the supervisor alone."""
        self.started = time.monotonic()
        self.process = subprocess.Popen(
            self.command,
            cwd=cwd,
            env={**os.environ, **self.environ, "LABELAPP_SUPERVISED": str(os.getpid())},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,  # banners; what matters is logged to stderr
            start_new_session=True,
        )

    def ended(self) -> bool:
        return self.process is not None and self.process.poll() is not None

    def due(self) -> bool:
        """Whether an ended process may start again; the pause doubles while it keeps ending early."""
        return time.monotonic() - self.started >= self.backoff

    def restart(self, cwd) -> None:
        calm = time.monotonic() - self.started > CALM_SECONDS
        self.backoff = 1.0 if calm else min(self.backoff * 2, LONGEST_BACKOFF)
        self.start(cwd)


class Supervisor:
    """Runs groups of children; at the end the groups end one after the other, in the order given.

    `may_start` holds a child back until its time has come, so that what people wait for has the machine to itself.
    """

    def __init__(self, groups: list[list[Child]], *, cwd, say: Callable, may_start: Callable[[Child], bool]) -> None:
        self.groups, self.cwd, self.say, self.may_start = groups, cwd, say, may_start
        self.asked_to_stop = False

    def children(self) -> list[Child]:
        return [child for group in self.groups for child in group]

    def run(self, ticks: list[Callable[[], None]]) -> None:
        """Start everything, then restart what ends and call the ticks, until a signal asks to stop; then end all."""
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, self._stop_soon)
        try:
            while not self.asked_to_stop:
                self._start_waiting()
                self._restart_ended()
                for tick in ticks:
                    tick()
                time.sleep(POLL_SECONDS)
        finally:
            self.say("Stopping ...")
            self.stop()

    def _stop_soon(self, *_) -> None:
        self.asked_to_stop = True

    def _start_waiting(self) -> None:
        for child in self.children():
            if child.process is None and self.may_start(child):
                child.start(self.cwd)

    def _restart_ended(self) -> None:
        for child in self.children():
            if child.ended() and child.due():
                self.say(f"{child.name} ended ({child.process.returncode}); starting it again.")
                child.restart(self.cwd)

    def stop(self) -> None:
        """End group after group: ask, wait, kill; then whatever they left behind."""
        if libc:
            libc.prctl(PR_SET_CHILD_SUBREAPER, 1)  # what an ended child leaves becomes ours, and is found below
        for group in self.groups:
            for child in group:
                self._ask(child)
            for child in group:
                self._wait(child)
        _end_all(_descendants())

    def _ask(self, child: Child) -> None:
        if child.process:
            with contextlib.suppress(ProcessLookupError):
                child.process.send_signal(signal.SIGTERM)

    def _wait(self, child: Child) -> None:
        if not child.process:
            return
        with contextlib.suppress(subprocess.TimeoutExpired):
            child.process.wait(child.grace)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(child.process.pid, signal.SIGKILL)
        child.process.wait()


def _descendants() -> list[psutil.Process]:
    ours = [child for child in psutil.Process().children() if child.name() not in EMBEDDED]
    return ours + [below for child in ours for below in child.children(recursive=True)]


def _end_all(processes: list[psutil.Process], grace: float = 3.0) -> None:
    for process in processes:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.terminate()
    _, alive = psutil.wait_procs(processes, timeout=grace)
    for process in alive:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.kill()
    psutil.wait_procs(alive, timeout=grace)
