"""One step of the reward losses that TRL knows too, on a few rows and a tiny model, as our trainer computes it."""

from __future__ import annotations

from pathlib import Path

from alignment.config import RewardConfig, build
from alignment.data.judgments import EQUAL
from alignment.data.labels import said_by_pairs
from alignment.data.pairs import read_pairs
from alignment.data.text import load_tokenizer
from alignment.models.checkpoints import load_reward
from alignment.objectives.examples import encode, gather
from alignment.objectives.reward import batch_of
from alignment.reward import Learners, accumulate
from tests.alignment.golden import Computed, gradients
from tests.alignment.preference_cases import PAIRS
from tests.alignment.snapshots import write_snapshot
from tests.tiny_models import make_tiny_policy, make_tiny_reward

CASES = {  # our config
    "plain": {"margin": "none", "centering": 0.0},
    "margin": {"margin": "additive", "centering": 0.0},
    "margin_centering": {"margin": "additive", "centering": 0.05},
}


def make_models(folder: Path) -> Path:
    make_tiny_policy(folder / "policy", seed=0)
    make_tiny_reward(folder / "reward", folder / "policy", seed=2)
    return folder


def ours(name: str, models: Path, folder: Path) -> Computed:
    tokenizer, model = load_tokenizer(models / "policy"), load_reward(models / "reward")
    snapshot, config = write_snapshot(folder, PAIRS), build(RewardConfig, CASES[name])
    comparisons = gather(said_by_pairs(read_pairs(snapshot.path, "train"), EQUAL))
    examples, _ = encode(tokenizer, comparisons, 256, {"reward": [0]})
    batch = batch_of(examples, [], model.device)
    found = accumulate(model, batch, config, Learners(), pad_id=tokenizer.pad_token_id)
    rows = sorted(list(text) for unit in batch.units for text in unit)
    return Computed(rows, found["loss_nats"], gradients(model))
