"""One step of each group-relative loss on the same completions and tiny models, as our trainer computes it."""

from __future__ import annotations

import json
from pathlib import Path

import torch

from alignment.config import GRPOConfig, build
from alignment.data.text import load_tokenizer
from alignment.grpo import accumulate, group_relative, penalized_reward
from alignment.models.checkpoints import load_policy
from alignment.online import Rollout
from alignment.sampling.decode import Sample
from alignment.sampling.rollouts import Completion, batch_of, read_prompts, rollout_logprobs, rollout_tensors
from tests.alignment.golden import Computed, gradients
from tests.alignment.snapshots import assistant, user
from tests.tiny_models import make_tiny_policy

PROMPTS = [user("Argue that books help."), [*user("Count."), *assistant("one"), *user("Go on.")]]
END = 1  # the end token of the tiny tokenizer
ANSWERS = [  # two groups of four, of different lengths; some met the limit of eight tokens
    [10, 11, 12, END], [40, 41, 42, 43, 44, 45, 46, 47], [7, END], [100, 101, 102, 103, 104, END],
    [260, 12, 13, 14, 15, 16, 17, 18], [END], [30, 31, 32, END], [77, 78, 79, 80, 81, 82, END],
]  # fmt: skip
REWARDS = [1.0, 0.25, -0.5, 2.0, 0.0, 0.5, 0.5, 3.0]
GROUP, LONGEST = 4, 8
CASES = {  # our config
    "grpo": {"loss": "grpo", "kl": {"beta": 0.3}},
    "grpo_uncorrected": {"loss": "grpo", "kl": {"beta": 0.3, "corrected": False}},
    "grpo_clipped": {"loss": "grpo", "kl": {"beta": 0.0}, "clip": {"low": 0.05, "high": 0.05}},
    "grpo_warm": {"loss": "grpo", "kl": {"beta": 0.1}, "sampling": {"temperature": 0.7}},
    "dapo": {"loss": "dapo", "kl": {"beta": 0.0}},
    "dapo_finished": {"loss": "dapo", "kl": {"beta": 0.2}, "sampling": {"learn_unfinished": False}},
    "dr_grpo": {"loss": "dr_grpo", "kl": {"beta": 0.3}},
    "gspo": {"loss": "gspo", "kl": {"beta": 0.0}, "clip": {"low": 0.1, "high": 0.1}},
    "rloo": {"loss": "rloo", "kl": {"beta": 0.05, "place": "reward"}},
}


def make_models(folder: Path) -> Path:
    """The policy that sampled, the one that is updated, and the reference."""
    for seed, name in enumerate(("old", "policy", "reference")):
        make_tiny_policy(folder / name, seed=seed)
    return folder


def config_of(name: str) -> GRPOConfig:
    case = CASES[name]
    sampling = {"prompts": 2, "completions": GROUP, "max_new_tokens": LONGEST, **case.get("sampling", {})}
    return build(GRPOConfig, {**case, "sampling": sampling})


def ours(name: str, models: Path, folder: Path) -> Computed:
    config, tokenizer = config_of(name), load_tokenizer(models / "old")
    made = completions(tokenizer, folder)
    tensors = rollout_tensors(made, tokenizer.pad_token_id, torch.device("cpu"))
    for key, model in (("old", "old"), ("reference", "reference")):
        tensors[key] = rollout_logprobs(load_policy(models / model), tensors, config.sampling.temperature)
    rollout = Rollout(made, {**tensors, "reward": torch.tensor(REWARDS)}, {})
    advantage = group_relative(penalized_reward(rollout, config, config.kl.beta), config)
    policy = load_policy(models / "policy")
    stats = accumulate(policy, {**tensors, "advantage": advantage}, config, beta=config.kl.beta, tokens=60)
    batch = batch_of(tensors)
    rows = [[row[real & ~answer].tolist(), row[answer].tolist()] for row, real, answer in zip(*batch, strict=True)]
    return Computed(sorted(rows), stats.loss, gradients(policy))


def completions(tokenizer, folder: Path) -> list[Completion]:
    """The planted answers to the prompts as they are read from a file."""
    folder.mkdir(parents=True, exist_ok=True)
    lines = [json.dumps({"id": i, "messages": messages}) + "\n" for i, messages in enumerate(PROMPTS)]
    (folder / "prompts.jsonl").write_text("".join(lines))
    prompts = read_prompts(str(folder / "prompts.jsonl"), None, tokenizer, room=200)
    return [
        Completion(prompts[i // GROUP], Sample(ids, tokenizer.decode(ids), [0.0] * len(ids), ids[-1] == END))
        for i, ids in enumerate(ANSWERS)
    ]
