"""Preference optimisation with LoRA, in bf16 and with layers run again: it starts at the reference, and ends merged."""

import json
from pathlib import Path

import pytest
import torch

from alignment.config import EXIT_DONE
from alignment.data.pairs import encode_pairs, read_pairs
from alignment.models.checkpoints import load_policy
from alignment.models.sequences import Passes, frozen_logprobs
from alignment.objectives import paired
from tests.alignment.snapshots import make_job, metrics_of, planted_pairs, write_snapshot
from tests.alignment.stages import FAST, run

LORA = {"rank": 8, "alpha": 32, "dropout": 0.1}
STEEP = {**FAST, "learning_rate": 2e-2}


@pytest.fixture
def snapshot(tmp_path):
    return write_snapshot(tmp_path / "s", planted_pairs(64, seed=0))


def trained(tmp_path, parent, snapshot, name: str, config: dict) -> Path:
    job = make_job("preference", tmp_path / name, config, snapshot=snapshot, parent=parent)
    exit_code, result = run(job, tmp_path)
    assert exit_code == EXIT_DONE, result
    return tmp_path / name


@pytest.mark.parametrize("loss", ["sigmoid", "kto", "orpo"])
def test_an_adapter_starts_at_the_reference_and_learns(tmp_path, parent, snapshot, loss):
    out = trained(tmp_path, parent, snapshot, "out", {"loss": loss, "lora": LORA, "optimization": STEEP})
    lines = metrics_of(out)
    if loss != "orpo":
        assert lines[0]["log_ratio_nats"] == pytest.approx(0, abs=1e-4)
    assert lines[-1]["margin"] > lines[0]["margin"]
    assert (out / "checkpoint" / "adapter" / "adapter_model.safetensors").is_file()


def test_the_merged_checkpoint_is_what_was_trained(tmp_path, parent, snapshot, tokenizer):
    out = trained(tmp_path, parent, snapshot, "out", {"lora": LORA, "optimization": STEEP})
    pairs, _ = encode_pairs(tokenizer, read_pairs(snapshot.path, "train"), 128)
    before, after = (
        frozen_logprobs(load_policy(path), paired.rows_of(pairs), Passes(0)).view(-1, 2)
        for path in (parent.path, out / "checkpoint")
    )
    assert (paired.difference(after - before) > 0).float().mean() >= 0.9


def test_running_layers_again_changes_nothing(tmp_path, parent, snapshot):
    losses = []
    for again in (False, True):
        plan = {**FAST, "epochs": 1, "activation_checkpointing": again}
        out = trained(tmp_path, parent, snapshot, f"again {again}", {"optimization": plan})
        losses.append([row["loss_nats"] for row in metrics_of(out)])
    assert losses[0] == pytest.approx(losses[1], abs=1e-6)


def test_bf16_starts_at_the_reference_too(tmp_path, parent, snapshot):
    out = trained(tmp_path, parent, snapshot, "out", {"precision": "bf16", "optimization": {**FAST, "epochs": 1}})
    first = metrics_of(out)[0]
    assert abs(first["log_ratio_nats"]) < 0.1  # bf16 keeps three digits
    card = json.loads((out / "checkpoint" / "card.json").read_text())
    assert card["precision"] == "bf16"
    assert all(p.dtype == torch.float32 for p in load_policy(out / "checkpoint").parameters())
