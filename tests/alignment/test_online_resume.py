"""A stage that samples may be killed at any moment, in the middle of a rollout too, and ends in the same weights."""

import json

import pytest
import torch

from alignment.config import Input
from alignment.models.checkpoints import save_checkpoint
from tests.alignment.kills import assert_kills_change_nothing
from tests.alignment.snapshots import make_job, user

RULE = {"terms": [{"kind": "contains", "pattern": "e"}]}
COST = {"terms": [{"kind": "contains", "pattern": "a"}], "limit": 0.1, "rate": 1.0}
STEERED = {"beta": 0.1, "target_nats": 0.1, "horizon": 50}
LORA = {"rank": 4, "alpha": 8.0}
GROUPS = {"sampling": {"prompts": 4, "completions": 4, "max_new_tokens": 8, "passes": 2, "tries": 2}, "kl": STEERED}
VALUED = {
    "sampling": {"prompts": 8, "completions": 2, "max_new_tokens": 8, "passes": 2}, "kl": STEERED,
    "value": {"source": "policy"},
}  # fmt: skip
PAIRS = {"sampling": {"prompts": 4, "completions": 4, "max_new_tokens": 8}}
CASES = {
    "grpo": {**GROUPS, "loss": "dapo", "lora": LORA},
    "safe": {**GROUPS, "loss": "rloo", "cost": COST},
    "ppo": {**VALUED, "lora": LORA},
    "safe_ppo": {**VALUED, "cost": COST},
    "online_dpo": {**PAIRS, "lora": {**LORA, "dropout": 0.2}},
}


@pytest.fixture
def ending(tmp_path, policy, tokenizer):
    """A parent whose answers end at all lengths: what a run compares its own with is part of its state."""
    with torch.no_grad():
        policy.get_output_embeddings().weight[tokenizer.eos_token_id] *= 40
    return Input(str(tmp_path / "ending"), save_checkpoint(policy, tokenizer, tmp_path / "ending", {}))


@pytest.mark.parametrize("stage", CASES)
def test_a_run_killed_again_and_again_ends_in_the_same_weights(tmp_path, ending, stage):
    rows = [{"id": number, "messages": user(f"Question {number}?")} for number in range(24)]
    (tmp_path / "prompts.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    plan = {"learning_rate": 3e-3, "epochs": 100, "max_steps": 32, "checkpoint_every": 3, "watch_every": 5}
    if stage != "online_dpo":
        plan["batch_size"] = 8  # 2 passes of 2 minibatches: a state is mostly inside a rollout
    config = {"prompts": str(tmp_path / "prompts.jsonl"), "reward": RULE, "optimization": plan, **CASES[stage]}
    steps = assert_kills_change_nothing(make_job(stage, tmp_path, config, parent=ending), tmp_path)
    assert len({line["length_ratio"] for line in steps.values()}) > 4
    for steered in {"kl_beta", "cost_multiplier"} & set(steps[1]):
        assert len({line[steered] for line in steps.values()}) == 8  # of 8 rollouts: a state had something to keep
