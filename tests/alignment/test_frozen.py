"""Frozen weights in bf16: half the memory, and the very same run."""

from types import SimpleNamespace

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM

from alignment.config import EXIT_DONE, Input, Lora, Optimization
from alignment.data.text import load_tokenizer
from alignment.models import precision
from alignment.models.adapters import adapted_layers, attach, merge
from alignment.models.checkpoints import load_policy, save_checkpoint
from alignment.models.frozen import HalfLinear, hold_in_bf16
from alignment.models.precision import autocast, prepare_for_training
from tests.alignment.snapshots import make_job, planted_pairs, write_snapshot
from tests.alignment.stages import FAST, run

IDS = torch.randint(5, 300, (2, 24), generator=torch.Generator().manual_seed(0))


@pytest.fixture(scope="module")
def stored(tmp_path_factory, parent):
    """A parent as a hub holds it: its weights are in bf16."""
    path = tmp_path_factory.mktemp("stored") / "policy"
    model = AutoModelForCausalLM.from_pretrained(parent.path, dtype=torch.bfloat16)
    return Input(str(path), save_checkpoint(model, load_tokenizer(parent.path), path, {"stage": "stored"}))


def body(model) -> list[torch.nn.Linear]:
    """The frozen linear layers."""
    return [layer.get_base_layer() for _, layer in adapted_layers(model)]


def size(model) -> int:
    return sum(layer.weight.nbytes for layer in body(model))


def test_the_frozen_weights_take_half_and_every_product_is_the_same(stored):
    plain, held = (attach(load_policy(stored.path), Lora(rank=4), seed=0) for _ in range(2))
    hold_in_bf16(held)
    assert size(held) * 2 == size(plain) > 0
    assert all(p.dtype == torch.float32 for p in held.parameters() if p.requires_grad)
    assert held.get_input_embeddings().weight.dtype == torch.float32
    for kind in ("fp32", "bf16"):
        with autocast(kind), torch.no_grad():
            assert torch.equal(held(IDS).logits, plain(IDS).logits)


def test_weights_that_bf16_would_round_stay_as_they_are(parent):
    model = hold_in_bf16(attach(load_policy(parent.path), Lora(rank=4), seed=0))
    assert {layer.weight.dtype for layer in body(model)} == {torch.float32}


def test_a_merged_weight_is_the_fp32_sum(stored):
    model = hold_in_bf16(attach(load_policy(stored.path), Lora(rank=4, alpha=8.0), seed=0))
    name, layer = adapted_layers(model)[0]
    down, up = layer.lora_A["default"].weight, layer.lora_B["default"].weight
    torch.nn.init.normal_(up, std=1e-3)  # far below what bf16 tells apart
    expected = load_policy(stored.path).get_parameter(f"{name}.weight") + 2.0 * up @ down
    merge(model)
    found = model.get_parameter(f"{name}.weight")
    assert found.dtype == torch.float32 and torch.allclose(found, expected, atol=1e-7, rtol=0)
    assert not any(isinstance(module, HalfLinear) for module in model.modules())


@pytest.mark.parametrize("stage", ["preference", "reward"])
def test_a_run_ends_in_the_artifact_of_one_that_held_fp32(tmp_path, stored, stage, monkeypatch):
    snapshot = write_snapshot(tmp_path / "s", planted_pairs(48, seed=0), planted_pairs(16, seed=1))
    config = {"precision": "bf16", "lora": {"rank": 4, "dropout": 0.1, "targets": ["q_proj", "down_proj"]},
              "optimization": {**FAST, "activation_checkpointing": True}}  # fmt: skip
    sizes, digests = [], []

    def hold(model):
        sizes.append(sum(layer.weight.nbytes for layer in hold_in_bf16(model).modules() if type(layer) is HalfLinear))

    for name, how in (("held", hold), ("plain", lambda model: None)):
        monkeypatch.setattr(precision, "hold_in_bf16", how)
        exit_code, result = run(make_job(stage, tmp_path / name, config, snapshot=snapshot, parent=stored), tmp_path)
        assert exit_code == EXIT_DONE, result
        digests.append(result["checkpoint"]["sha256"])
    assert sizes[0] > 0 and digests[0] == digests[1]
    state = load_file(tmp_path / "held" / "state" / "state.safetensors")
    weights = {name: value for name, value in state.items() if name.startswith(("model.", "optimizer."))}
    assert weights and {value.dtype for value in weights.values()} == {torch.float32}


def test_a_policy_that_samples_keeps_fp32(tmp_path, stored):
    config = SimpleNamespace(lora=Lora(rank=4), optimization=Optimization(), precision="bf16")
    for samples, kind in ((True, torch.float32), (False, torch.bfloat16)):
        model = load_policy(stored.path)
        prepare_for_training(model, config, make_job("grpo", tmp_path, {}), samples=samples)
        assert {layer.weight.dtype for layer in body(model)} == {kind}
