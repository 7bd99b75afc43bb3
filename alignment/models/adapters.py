"""LoRA: small trained matrices beside frozen weights. The model keeps its class, so every stage handles it as before.

Source: Hu et al. 2021, arXiv:2106.09685: a weight W acts as W + (alpha / rank) B A, with A random and B zero at first.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig, inject_adapter_in_model
from peft.tuners.tuners_utils import BaseTunerLayer
from safetensors.torch import save_file
from transformers import PreTrainedModel
from transformers.pytorch_utils import Conv1D

from alignment.config import JobError, Lora
from alignment.models.frozen import hold_in_fp32

ADAPTER = "adapter"  # the folder of a checkpoint that holds the adapter alone, as peft reads it


def attach(model: PreTrainedModel, lora: Lora, seed: int) -> PreTrainedModel:
    """Put an adapter beside the targets and freeze the body and its vocabulary head; other heads stay trained.

    The model changes in place and at first says exactly what it said before. Raises JobError for an unknown target.
    """
    heads = [model.get_parameter(name) for name in heads_of(model)]
    config = LoraConfig(
        r=lora.rank,
        lora_alpha=lora.alpha,
        lora_dropout=lora.dropout,
        target_modules=targets_of(model, lora),
        fan_in_fan_out=any(isinstance(module, Conv1D) for module in model.modules()),
    )
    with torch.random.fork_rng():  # what the stage draws afterwards does not depend on the adapter's size
        torch.manual_seed(seed)
        inject_adapter_in_model(config, model)
    for parameter in heads:
        parameter.requires_grad_(True)
    return model


def heads_of(model: PreTrainedModel) -> list[str]:
    """The names of the parameters outside the body and the vocabulary head: a score head's, a value head's."""
    output, body = model.get_output_embeddings(), f"{model.base_model_prefix}."
    vocabulary = {id(p) for p in output.parameters()} if output is not None else set()
    return [n for n, p in model.named_parameters() if not n.startswith(body) and id(p) not in vocabulary]


def targets_of(model: PreTrainedModel, lora: Lora) -> list[str]:
    """The last names of the body's linear layers that get an adapter. Raises JobError for a name that none has."""
    linear = (torch.nn.Linear, Conv1D)  # GPT-2 calls its linear layers Conv1D
    layers = {name for name, module in model.base_model.named_modules() if isinstance(module, linear)}
    names = sorted({name.rpartition(".")[2] for name in layers})
    if lora.targets == "all-linear":
        return names
    if unknown := sorted(set(lora.targets) - set(names)):
        raise JobError(f"lora.targets names {unknown[0]!r}, which the model has not; its layers are {', '.join(names)}")
    return sorted(set(lora.targets))


def adapted_layers(model: torch.nn.Module) -> list[tuple[str, Any]]:
    """(name, layer) of every layer with an adapter; empty for a plain model."""
    return [(name, module) for name, module in model.named_modules() if isinstance(module, BaseTunerLayer)]


@contextmanager
def without(model: torch.nn.Module) -> Iterator[None]:
    """The model as it was before training: with LoRA the frozen reference policy costs no second copy.

    Raises ValueError for a model without an adapter, which would stand in for its own reference.
    """
    layers = [layer for _, layer in adapted_layers(model)]
    if not layers:
        raise ValueError("the model has no adapter to switch off; keep a frozen copy as the reference")
    for layer in layers:
        layer.enable_adapters(False)
    try:
        yield
    finally:
        for layer in layers:
            layer.enable_adapters(True)


@torch.no_grad()
def merge(model: PreTrainedModel) -> PreTrainedModel:
    """Add every adapter into its weight, in fp32 and in place: a plain model is left, with tied weights still tied."""
    hold_in_fp32(model)
    for name, layer in adapted_layers(model):
        layer.merge()
        parent, _, last = name.rpartition(".")
        setattr(model.get_submodule(parent), last, layer.get_base_layer())
    model.__dict__.pop("peft_config", None)
    return model.requires_grad_(True)


def save_adapter(model: PreTrainedModel, directory: Path) -> None:
    """The adapter and the trained heads alone, for `PeftModel.from_pretrained`."""
    config = model.peft_config["default"]
    config.modules_to_save = sorted({name.partition(".")[0] for name in heads_of(model)}) or None
    trained = {name.replace(".default", ""): p for name, p in model.named_parameters() if p.requires_grad}
    tensors = {f"base_model.model.{name}": p.detach().cpu().contiguous() for name, p in trained.items()}
    directory.mkdir()
    save_file(tensors, directory / "adapter_model.safetensors", metadata={"format": "pt"})
    facts = {key: sorted(v) if isinstance(v, set) else v for key, v in config.to_dict().items()}
    (directory / "adapter_config.json").write_text(json.dumps(facts, indent=2, sort_keys=True) + "\n")
