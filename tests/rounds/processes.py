"""Waiting for what the real worker of a test does to a round."""

import contextlib
import json
import os
import signal
import subprocess
from pathlib import Path

from alignment.manifest import read_manifest
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


def weights_of(round: Round) -> str:
    """SHA-256 of the trained weights; the card beside them also holds seconds, which no two runs share."""
    checkpoint = round.stages.get().result["checkpoint"]["path"]
    return read_manifest(checkpoint)["files"]["model.safetensors"]["sha256"]


def weights_by_hand(round: Round, folder: Path) -> str:
    """SHA-256 of the weights that the round's job gives without a worker and without an interruption."""
    from alignment.__main__ import main

    job = {**round.stages.get().job, "output": str(folder / "by-hand"), "resume_from": None}
    (folder / "job.json").write_text(json.dumps(job))
    assert main([job["stage"], str(folder / "job.json")]) == 0
    return read_manifest(folder / "by-hand" / "checkpoint")["files"]["model.safetensors"]["sha256"]
