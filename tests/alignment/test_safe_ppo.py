"""The stage safe_ppo: a cost that the reward invites is held at its limit, and each value model learns its own."""

import json
import math
from itertools import pairwise

import pytest
import torch

from alignment import ppo
from alignment.config import CONFIGS, EXIT_BAD_INPUT, EXIT_DONE, build
from alignment.sampling.values import PolicyAndValue, value_from_policy
from tests.alignment.snapshots import make_job, metrics_of, user
from tests.alignment.stages import run

WORDS = ["books", "schools", "cities", "rivers", "people", "teachers", "gardens", "children"]
TEMPTING = {"terms": [{"kind": "contains", "pattern": "e"}, {"kind": "contains", "pattern": "a"}]}
COST = {"terms": [{"kind": "contains", "pattern": "e"}], "limit": 0.2, "rate": 1.0}


def config_of(tmp_path, **changes):
    rows = [{"id": word, "messages": user(f"Argue that {word} help.")} for word in WORDS]
    (tmp_path / "prompts.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return {
        "prompts": str(tmp_path / "prompts.jsonl"), "reward": TEMPTING, "cost": COST, "value": {"source": "policy"},
        "sampling": {"prompts": 8, "completions": 8, "max_new_tokens": 8, "passes": 2}, "kl": {"beta": 0.0},
        "optimization": {"learning_rate": 1e-2, "batch_size": 32, "epochs": 13, "checkpoint_every": 1000}, **changes,
    }  # fmt: skip


def test_the_cost_stays_at_its_limit_while_the_rest_of_the_reward_rises(tmp_path, parent):
    code, result = run(make_job("safe_ppo", tmp_path / "out", config_of(tmp_path), parent=parent), tmp_path)
    assert code == EXIT_DONE, result
    rollouts = metrics_of(tmp_path / "out")[::4]

    def mean(lines, name):
        return sum(line[name] for line in lines) / len(lines)

    assert mean(rollouts[-4:], "cost") <= 0.25  # without its price it rises: test_ppo learns this very rule
    assert mean(rollouts[-4:], "reward_contains_2") > mean(rollouts[:2], "reward_contains_2") + 0.4
    prices = [1.0, *(line["cost_multiplier"] for line in rollouts)]
    assert prices[1] == pytest.approx(math.exp(rollouts[0]["cost"] - 0.2))
    rose = [after > before for before, after in pairwise(prices)]
    assert rose == [line["cost"] > 0.2 for line in rollouts]  # up over the limit, down under it


def test_each_value_model_learns_from_its_own_returns_alone(tmp_path, parent, policy):
    config = build(CONFIGS["safe_ppo"], config_of(tmp_path))
    model = PolicyAndValue(policy, value_from_policy(parent.path), value_from_policy(parent.path))
    ids, zeros = torch.randint(5, 300, (3, 9)), torch.zeros(3, 9)
    tensors = {
        "ids": ids, "prompt_tokens": torch.tensor([4, 4, 4]), "tokens": torch.tensor([9, 7, 8]), "old": zeros,
        "advantage": zeros, "value": zeros, "value_return": zeros, "cost_value": zeros, "cost_value_return": zeros + 1,
    }  # fmt: skip
    stats = ppo.accumulate(model, tensors, config)
    assert stats.value_loss == pytest.approx(0.5)  # the costs' alone: half of 1 squared
    assert model.cost_value.score.weight.grad.abs().sum() > 0
    assert not model.value.score.weight.grad.any()
    assert set(model.value_models) == {"value", "cost_value"}


def test_a_cost_model_that_is_not_given_is_asked_for(tmp_path, parent):
    config = config_of(tmp_path, cost={})
    code, result = run(make_job("safe_ppo", tmp_path / "out", config, parent=parent), tmp_path)
    assert code == EXIT_BAD_INPUT
    assert "'cost'" in result["reason"]
