"""Waiting for what the real worker of a test does to a round."""

import contextlib
import os
import signal
import subprocess

from labelapp.models import Round
from tests.servers import wait_until

PATIENCE = 120  # seconds; a net for hangs on a busy machine


def kill_group(process: subprocess.Popen) -> None:
    """End the worker and its pool at once, as a power cut would."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def step_of(round: Round) -> int:
    return round.stages.filter(state="running").values_list("step", flat=True).first() or 0


def wait_for(round: Round, *states: str) -> Round:
    """Wait until the round is in one of the states, `done` or `failed`, and return it fresh."""

    def reached() -> bool:
        round.refresh_from_db()
        return round.state in {*states, "done", "failed"}

    wait_until(reached, seconds=PATIENCE, what=f"round {round.number}'s end")
    return round
