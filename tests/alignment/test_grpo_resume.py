"""A run of grpo or safe may be killed at any moment, in the middle of a rollout too, and ends in the same weights."""

import random
import time

import pytest

from tests.alignment.snapshots import make_job, metrics_of
from tests.alignment.stages import run
from tests.alignment.test_grpo import SMALL, config_of
from tests.alignment.test_resume import start, wait_for_steps

STEERED = {"beta": 0.05, "target_nats": 0.1, "horizon": 50}
HALVES = {"batch_size": 8, "checkpoint_every": 3}  # 2 passes of 2 minibatches: a state is mostly inside a rollout
LORA = {"rank": 4, "alpha": 8.0}
COST = {"terms": [{"kind": "contains", "pattern": "a"}], "limit": 0.1, "rate": 1.0}


def options(folder, steps: int, **more) -> dict:
    sampling = {**SMALL, "passes": 2, "tries": 2}
    return config_of(folder, sampling=sampling, kl=STEERED, optimization={**HALVES, "max_steps": steps}, **more)


def resumed(job, earlier):
    return type(job)(**{**vars(job), "resume_from": str(earlier)})


def test_a_run_killed_inside_a_rollout_ends_in_the_same_weights(tmp_path, parent):
    config = options(tmp_path, 12, lora=LORA, loss="dapo")
    _, expected = run(make_job("grpo", tmp_path / "whole", config, parent=parent), tmp_path)

    killed = start(make_job("grpo", tmp_path / "killed", config, parent=parent), tmp_path)
    wait_for_steps(killed, tmp_path / "killed", 7)  # the state is of step 6: two steps into the second rollout
    killed.kill()
    killed.wait()
    again = resumed(make_job("grpo", tmp_path / "again", config, parent=parent), tmp_path / "killed")
    _, result = run(again, tmp_path)

    first = metrics_of(again.output)[0]["step"]
    assert first >= 7
    assert result["checkpoint"]["sha256"] == expected["checkpoint"]["sha256"]
    assert len({line["kl_beta"] for line in metrics_of(tmp_path / "whole")}) == 3  # beta was steered once a rollout


@pytest.mark.slow
@pytest.mark.parametrize(
    ("stage", "more"),
    [("grpo", {"loss": "rloo", "lora": LORA}), ("safe", {"cost": COST})],
)
def test_a_run_killed_again_and_again_at_random_moments_ends_in_the_same_weights(tmp_path, parent, stage, more):
    config, moments = options(tmp_path, 32, **more), random.Random()
    _, expected = run(make_job(stage, tmp_path / "whole", config, parent=parent), tmp_path)
    earlier, tried = tmp_path / "nothing", []
    for attempt in range(2):
        output = tmp_path / f"attempt-{attempt}"
        process = start(resumed(make_job(stage, output, config, parent=parent), earlier), tmp_path)
        wait_for_steps(process, output, 1)
        tried.append(moments.uniform(0.0, 1.0))
        time.sleep(tried[-1])
        process.kill()
        process.wait()
        earlier = output
    _, result = run(resumed(make_job(stage, tmp_path / "last", config, parent=parent), earlier), tmp_path)
    assert result["checkpoint"]["sha256"] == expected["checkpoint"]["sha256"], f"killed after {tried} s"
