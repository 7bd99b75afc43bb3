"""A reward run of every kind of label and head, killed at a random step, ends in the artifact it would have made."""

import random

import pytest

from tests.alignment.snapshots import make_job, metrics_of, write_snapshot
from tests.alignment.stages import FAST, run
from tests.alignment.test_resume import start, wait_for_steps
from tests.alignment.test_reward_variants import EVERYTHING, RANKED, pairs_of, planted_judgments

ADAPTED = {**RANKED, "lora": {"rank": 4, "dropout": 0.2}}
SWAPPED = {**EVERYTHING, "counterfactual_weight": 0.5, "heads": {"ensemble": 3, "safety": 1.0}}


@pytest.mark.slow
@pytest.mark.parametrize("config", [ADAPTED, SWAPPED], ids=["rankings, adapter, dropout", "ensemble, cost, swaps"])
def test_a_killed_run_resumes_to_the_very_same_artifact(tmp_path, parent, config):
    rows, size = planted_judgments(36, seed=0, size=3), 4
    snapshot = write_snapshot(tmp_path / "s", pairs_of(rows), [], rows)
    config = {**config, "optimization": {**FAST, "batch_size": size, "checkpoint_every": 3}}
    inputs = {"snapshot": snapshot, "parent": parent}
    _, expected = run(make_job("reward", tmp_path / "whole", config, **inputs), tmp_path)

    killed = start(make_job("reward", tmp_path / "killed", config, **inputs), tmp_path)
    wait_for_steps(killed, tmp_path / "killed", random.randint(4, 20))
    killed.kill()
    killed.wait()
    again = make_job("reward", tmp_path / "again", config, **inputs)
    again = type(again)(**{**vars(again), "resume_from": str(tmp_path / "killed")})
    _, result = run(again, tmp_path)

    assert result["status"] == "done"
    assert metrics_of(again.output)[0]["step"] >= 4  # it did not begin at the beginning
    assert result["checkpoint"]["sha256"] == expected["checkpoint"]["sha256"]
