"""The stage safe: a planted cost is held at its limit, where the reward alone would let it rise to the top."""

import json

import pytest
import torch

from alignment.config import EXIT_DONE, Input, JobError, SafeConfig, build
from alignment.models.checkpoints import reward_from_policy, save_checkpoint
from alignment.safe import constrained
from tests.alignment.snapshots import make_job, metrics_of
from tests.alignment.stages import run
from tests.alignment.test_grpo import SMALL, config_of

LIMIT = 0.2
# The reward likes both letters, so nothing but the constraint can keep the policy from the first.
TEMPTING = {"terms": [{"kind": "contains", "pattern": "e"}, {"kind": "contains", "pattern": "a"}]}
COST = {"terms": [{"kind": "contains", "pattern": "e"}], "limit": LIMIT, "rate": 1.0}


def test_the_advantage_of_the_lagrangian_by_hand():
    reward, cost = torch.tensor([1.0, -1.0]), torch.tensor([2.0, 0.0])
    assert constrained(reward, cost, 3.0).tolist() == [(1 - 6) / 4, -1 / 4]
    assert torch.equal(constrained(reward, cost, 0.0), reward)


def test_a_cost_that_the_reward_invites_is_held_at_its_limit(tmp_path, parent):
    options = {
        "loss": "dr_grpo", "reward": TEMPTING, "sampling": {**SMALL, "prompts": 8, "completions": 8},
        "kl": {"beta": 0.0}, "optimization": {"max_steps": 36},
    }  # fmt: skip
    lines = {}
    for stage, more in (("grpo", {}), ("safe", {"cost": COST})):
        job = make_job(stage, tmp_path / stage, config_of(tmp_path, **options) | more, parent=parent)
        exit_code, result = run(job, tmp_path)
        assert exit_code == EXIT_DONE, result
        lines[stage] = metrics_of(tmp_path / stage)

    def late(stage, name):
        return sum(line[name] for line in lines[stage][-6:]) / 6

    assert late("grpo", "reward_contains_1") > 0.7  # what the constraint has to hold
    assert late("safe", "cost") <= LIMIT + 0.05
    assert late("safe", "reward_contains_2") > 0.7  # and the rest of the reward rises all the same
    prices = [line["cost_multiplier"] for line in lines["safe"]]
    assert max(prices) > prices[0]  # it was over the limit on the way
    kept = json.loads((tmp_path / "safe" / "checkpoint" / "card.json").read_text())["best_step"]
    [measured] = [line for line in lines["safe"] if line["step"] == kept]
    assert measured["held_out_value"] == max(line.get("held_out_value", -1e9) for line in lines["safe"])


@pytest.mark.parametrize(
    ("cost", "said"),
    [({"terms": []}, "no source of cost"), ({"start": 0}, "cost.start is 0"), ({"rate": 0}, "cost.rate is 0")],
)
def test_a_bad_cost_is_refused_by_its_field(tmp_path, cost, said):
    with pytest.raises(JobError, match=said):
        build(SafeConfig, config_of(tmp_path, cost=cost))


def test_the_cost_head_of_a_reward_model_is_the_usual_cost(tmp_path, parent, tokenizer):
    torch.manual_seed(0)
    model = reward_from_policy(parent.path, ["reward", "cost"])
    both = Input(str(tmp_path / "r"), save_checkpoint(model, tokenizer, tmp_path / "r", {}))
    config = config_of(tmp_path, reward=None, optimization={"max_steps": 1})
    job = make_job("safe", tmp_path / "out", config, parent=parent, reward=both, cost=both)
    exit_code, result = run(job, tmp_path)
    assert exit_code == EXIT_DONE, result
    [line] = metrics_of(tmp_path / "out")
    assert line["cost"] != line["reward_reward"]
    assert (line["cost_multiplier"] > 1) is (line["cost"] > 0)  # 0 is the boundary


def test_a_cost_model_that_is_not_given_is_asked_for(tmp_path, parent):
    job = make_job("safe", tmp_path / "out", config_of(tmp_path), parent=parent)
    exit_code, result = run(job, tmp_path)
    assert exit_code == 64
    assert "'cost'" in result["reason"]
