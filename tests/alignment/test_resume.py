"""A training run can be killed or stopped at any step and ends in the artifact it would have made."""

import json
import subprocess
import sys
import time

import pytest

from alignment.config import EXIT_STOPPED
from tests.alignment.snapshots import make_job, metrics_of, planted_pairs, write_snapshot
from tests.alignment.stages import FAST, run


@pytest.mark.parametrize("stage", ["reward", "preference"])
def test_a_killed_run_resumes_to_the_very_same_artifact(tmp_path, parent, stage):
    snapshot = write_snapshot(tmp_path / "s", planted_pairs(64, seed=0), planted_pairs(8, seed=1))
    config = {"optimization": {**FAST, "batch_size": 4, "checkpoint_every": 3}}  # 48 steps
    if stage == "reward":
        config["counterfactual_weight"] = 0.5
    inputs = {"snapshot": snapshot, "parent": parent}
    whole = make_job(stage, tmp_path / "whole", config, **inputs)
    _, expected = run(whole, tmp_path)

    killed = start(make_job(stage, tmp_path / "killed", config, **inputs), tmp_path)
    wait_for_steps(killed, tmp_path / "killed", 4)
    killed.kill()
    killed.wait()
    again = make_job(stage, tmp_path / "again", config, **inputs)
    again = type(again)(**{**vars(again), "resume_from": str(tmp_path / "killed")})
    _, result = run(again, tmp_path)

    assert result["status"] == "done"
    assert metrics_of(again.output)[0]["step"] >= 4  # it did not begin at the beginning
    assert result["checkpoint"]["sha256"] == expected["checkpoint"]["sha256"]


def test_a_stopped_run_says_so_and_leaves_a_state(tmp_path, parent):
    snapshot = write_snapshot(tmp_path / "s", planted_pairs(64, seed=0))
    config = {"optimization": {**FAST, "epochs": 400, "checkpoint_every": 10**6}}
    running = start(make_job("reward", tmp_path / "out", config, snapshot=snapshot, parent=parent), tmp_path)
    wait_for_steps(running, tmp_path / "out", 2)
    running.terminate()
    assert running.wait() == EXIT_STOPPED
    result = json.loads((tmp_path / "out" / "result.json").read_text())
    assert (result["status"], result["checkpoint"]) == ("stopped", None)
    assert (tmp_path / "out" / "state" / "state.safetensors").is_file()


def start(job, tmp_path) -> subprocess.Popen:
    path = tmp_path / f"{job.stage}-job.json"
    job.dump(path)
    return subprocess.Popen([sys.executable, "-m", "alignment", job.stage, str(path)])


def wait_for_steps(process: subprocess.Popen, output, steps: int) -> None:
    while not (output / "metrics.jsonl").is_file() or len(metrics_of(output)) < steps:
        assert process.poll() in (None, 0)
        if process.poll() == 0:
            return
        time.sleep(0.01)
