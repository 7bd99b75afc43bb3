"""The preference losses by TRL, from text rows through its own tokenisation and collators.

`python -m tests.alignment.golden.make_preference` writes preference.json.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

import torch
from datasets import Dataset
from trl import DPOConfig, DPOTrainer, KTOConfig, KTOTrainer
from trl.experimental.cpo import CPOConfig, CPOTrainer
from trl.experimental.orpo import ORPOConfig, ORPOTrainer

from alignment.config import PreferenceConfig, build
from alignment.data.text import load_tokenizer
from alignment.models.checkpoints import load_policy
from alignment.objectives.unpaired import mismatched
from tests.alignment.golden import Computed, gradients, save
from tests.alignment.preference_cases import CASES, LABELED, PAIRS, SEED, make_models, our_examples, pairs_of

DPO = {  # their options
    "sigmoid": {"loss_type": "sigmoid", "beta": 0.3},
    "robust": {"loss_type": "robust", "beta": 0.3, "label_smoothing": 0.2},
    "hinge": {"loss_type": "hinge", "beta": 0.05},
    "ipo": {"loss_type": "ipo", "beta": 0.3},
    "nll": {"loss_type": ["sigmoid", "sft"], "loss_weights": [1.0, 0.7], "beta": 0.3},
}
CPO = {
    "simpo": {"loss_type": "simpo", "beta": 2.0, "simpo_gamma": 0.5, "cpo_alpha": 0.0},
    "simpo_smoothed": {
        "loss_type": "simpo", "beta": 2.0, "simpo_gamma": 0.5, "cpo_alpha": 0.0, "label_smoothing": 0.1
    },
}  # fmt: skip


def arguments(kind, folder: Path, **options):
    return kind(
        output_dir=str(folder), per_device_train_batch_size=8, max_length=256, report_to="none", use_cpu=True,
        bf16=False, gradient_checkpointing=False, disable_tqdm=True, **options,
    )  # fmt: skip


def theirs(name: str, models: Path, folder: Path) -> Computed:
    if name in DPO:
        return by_dpo(models, folder, pairs_of(name), DPO[name])
    if name in CPO:
        return by_odds(CPOTrainer, arguments(CPOConfig, folder, **CPO[name]), models)
    if name == "orpo":
        return by_odds(ORPOTrainer, arguments(ORPOConfig, folder, beta=0.4), models)
    return by_kto(models, folder)


def by_dpo(models: Path, folder: Path, rows: list[dict], options: dict) -> Computed:
    trainer = DPOTrainer(
        model=load_policy(models / "policy"), ref_model=load_policy(models / "reference"),
        args=arguments(DPOConfig, folder, **options), train_dataset=Dataset.from_list(rows),
        processing_class=load_tokenizer(models / "policy"),
    )  # fmt: skip
    batch, loss = batch_and_loss(trainer)
    return computed(split(batch["input_ids"], batch["attention_mask"], batch["completion_mask"]), loss, trainer)


def by_odds(kind, args, models: Path) -> Computed:
    trainer = kind(
        model=load_policy(models / "policy"), args=args, train_dataset=Dataset.from_list(PAIRS),
        processing_class=load_tokenizer(models / "policy"),
    )  # fmt: skip
    batch, loss = batch_and_loss(trainer)
    rows = [
        row
        for side in ("chosen", "rejected")
        for row in split(batch[f"{side}_input_ids"], batch[f"{side}_attention_mask"], batch[f"{side}_labels"] != -100)
    ]
    return computed(rows, loss, trainer)


def by_kto(models: Path, folder: Path) -> Computed:
    """Rows in the order in which TRL's rotation by one makes our mismatched pairs."""
    tokenizer = load_tokenizer(models / "policy")
    trainer = KTOTrainer(
        model=load_policy(models / "policy"), ref_model=load_policy(models / "reference"),
        args=arguments(KTOConfig, folder, beta=0.3, desirable_weight=1.5),
        train_dataset=Dataset.from_list([LABELED[i] for i in rotation(tokenizer)]), processing_class=tokenizer,
    )  # fmt: skip
    batch, loss = batch_and_loss(trainer)
    rows = split(batch["input_ids"], batch["attention_mask"], batch["completion_mask"])
    rows += split(batch["KL_input_ids"], batch["KL_attention_mask"], batch["KL_completion_mask"])
    return computed(rows, loss, trainer)


def rotation(tokenizer) -> list[int]:
    """The order of the rows in which the one before each is its partner."""
    examples = our_examples(tokenizer, build(PreferenceConfig, CASES["kto"]))
    partners, order = mismatched([e.prompt for e in examples], SEED), [0]
    while len(order) < len(examples):
        order.insert(0, partners[order[0]])
    return order


def batch_and_loss(trainer) -> tuple[dict, torch.Tensor]:
    batch = next(iter(trainer.get_train_dataloader()))
    trainer.model.train()
    loss = trainer.compute_loss(trainer.model, dict(batch))
    loss.backward()
    return batch, loss


def split(ids: torch.Tensor, mask: torch.Tensor, learnt: torch.Tensor) -> list[list[list[int]]]:
    """[prompt, completion] of every row, without its padding."""
    rows = zip(ids, mask.bool(), learnt.bool(), strict=True)
    return [[row[real & ~answer].tolist(), row[real & answer].tolist()] for row, real, answer in rows]


def computed(rows: list, loss: torch.Tensor, trainer) -> Computed:
    return Computed(sorted(rows), loss.item(), gradients(trainer.model))


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        models = make_models(Path(folder))
        save("preference", {name: theirs(name, models, Path(folder) / "trl") for name in CASES})


if __name__ == "__main__":
    main()
