"""The reward losses by TRL, from text rows through its own tokenisation and collator.

`python -m tests.alignment.golden.make_reward` writes reward.json.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

from datasets import Dataset
from trl import RewardConfig, RewardTrainer

from alignment.data.text import load_tokenizer
from alignment.models.checkpoints import load_reward
from tests.alignment.golden import Computed, gradients, save
from tests.alignment.golden.make_preference import arguments, batch_and_loss
from tests.alignment.preference_cases import PAIRS
from tests.alignment.reward_cases import CASES, make_models


def theirs(name: str, models: Path, folder: Path) -> Computed:
    """TRL takes a margin where the rows have one, and a coefficient of 0 is none."""
    rows, ours = Dataset.from_list(PAIRS), CASES[name]
    trainer = RewardTrainer(
        model=load_reward(models / "reward"),
        args=arguments(RewardConfig, folder, center_rewards_coefficient=ours["centering"] or None),
        train_dataset=rows if ours["margin"] == "additive" else rows.remove_columns("margin"),
        processing_class=load_tokenizer(models / "policy"),
    )
    batch, loss = batch_and_loss(trainer)
    real = zip(batch["input_ids"], batch["attention_mask"].bool(), strict=True)
    return Computed(sorted(ids[mask].tolist() for ids, mask in real), loss.item(), gradients(trainer.model))


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        models = make_models(Path(folder))
        save("reward", {name: theirs(name, models, Path(folder) / name) for name in CASES})


if __name__ == "__main__":
    main()
