"""Our SFT losses equal TRL's on the same weights, from text rows through both tokenisations.

TRL builds its own dataset and batch from the same rows with the same tokenizer and chat template. Where the two differ
in tokens, loss or gradient, one of them trains on something else than the other says.
"""

import json

import pytest
import torch

pytest.importorskip("trl", reason="TRL is in the dev extra only")
from datasets import Dataset, load_dataset
from trl import DPOConfig, DPOTrainer, SFTConfig, SFTTrainer

from alignment.data.text import load_tokenizer
from alignment.models.checkpoints import load_policy
from alignment.sft import accumulate, encode_row, learnt_tokens, sum_nats
from tests.alignment.golden import gradients
from tests.alignment.preference_cases import PAIRS
from tests.alignment.snapshots import planted_pairs, write_snapshot
from tests.tiny_models import make_tiny_policy


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    folder = tmp_path_factory.mktemp("parity")
    make_tiny_policy(folder / "policy", seed=0)
    return folder


@pytest.fixture(scope="module")
def tokenizer(models):
    return load_tokenizer(models / "policy")


def arguments(kind, tmp_path, **options):
    return kind(
        output_dir=str(tmp_path), per_device_train_batch_size=8, max_length=256, report_to="none", use_cpu=True,
        bf16=False, gradient_checkpointing=False, disable_tqdm=True, **options,
    )  # fmt: skip


def their_batch_and_loss(trainer) -> tuple[dict, torch.Tensor]:
    batch = next(iter(trainer.get_train_dataloader()))
    trainer.model.train()
    loss = trainer.compute_loss(trainer.model, dict(batch))
    loss.backward()
    return batch, loss.detach()


def real_rows(ids: torch.Tensor, mask: torch.Tensor) -> set[tuple[int, ...]]:
    return {tuple(row[keep.bool()].tolist()) for row, keep in zip(ids, mask, strict=True)}


def assert_equal(ours: torch.Tensor, theirs: torch.Tensor, our_model, their_model) -> None:
    """The promise: 1e-5 in loss, 1e-4 of the gradient's norm."""
    assert abs(ours.item() - theirs.item()) <= 1e-5
    expected = gradients(their_model)
    assert expected.norm() > 0
    assert (gradients(our_model) - expected).norm() <= 1e-4 * expected.norm()


COMPLETIONS = [{"prompt": row["prompt"], "completion": row["chosen"]} for row in PAIRS]
DIALOGUES = [{"messages": row["prompt"] + row["rejected"]} for row in PAIRS]


@pytest.mark.parametrize(("rows", "options"), [(COMPLETIONS, {}), (DIALOGUES, {"assistant_only_loss": True})])
def test_sft_equals_trl(models, tokenizer, tmp_path, rows, options):
    trainer = SFTTrainer(
        model=load_policy(models / "policy"), args=arguments(SFTConfig, tmp_path, **options),
        train_dataset=Dataset.from_list(rows), processing_class=tokenizer,
    )  # fmt: skip
    batch, theirs = their_batch_and_loss(trainer)

    dialogues, model = [encode_row(row, tokenizer, 256) for row in rows], load_policy(models / "policy")
    ours = sum_nats(model, dialogues, tokenizer.pad_token_id) / learnt_tokens(dialogues)
    ours.backward()

    assert {tuple(d.ids) for d in dialogues} == real_rows(batch["input_ids"], batch["attention_mask"])
    learnt = {tuple(i for i, keep in zip(d.ids, d.learn, strict=True) if keep) for d in dialogues}
    assert learnt == real_rows(batch["input_ids"], batch["labels"] != -100)
    assert_equal(ours, theirs, model, trainer.model)

    cut = load_policy(models / "policy")
    loss = accumulate(cut, dialogues, tokenizer.pad_token_id, micro_tokens=1, precision="fp32")
    assert_equal(torch.tensor(loss), theirs, cut, trainer.model)  # one row at a time: still the same step


def test_trl_trains_on_a_snapshots_pairs_file_unchanged(models, tokenizer, tmp_path):
    snapshot = write_snapshot(tmp_path / "snapshot", [*PAIRS, *planted_pairs(8, seed=0)])
    before = (tmp_path / "snapshot" / "pairs-train.jsonl").read_bytes()
    rows = load_dataset(
        "json", data_files=f"{snapshot.path}/pairs-train.jsonl", split="train", cache_dir=str(tmp_path / "cache")
    )
    trainer = DPOTrainer(
        model=load_policy(models / "policy"), ref_model=load_policy(models / "policy"),
        args=arguments(DPOConfig, tmp_path / "out", max_steps=1, save_strategy="no", learning_rate=1e-2),
        train_dataset=rows, processing_class=tokenizer,
    )  # fmt: skip
    start = [p.detach().clone() for p in trainer.model.parameters()]

    trainer.train()

    assert trainer.state.global_step == 1
    assert any(not torch.equal(old, new) for old, new in zip(start, trainer.model.parameters(), strict=True))
    assert (tmp_path / "snapshot" / "pairs-train.jsonl").read_bytes() == before
    assert len(rows) == len(before.splitlines()) == len([json.loads(line) for line in before.splitlines()])
