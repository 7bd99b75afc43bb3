"""Checkpoints: make, load and save policies and reward models as Hugging Face directories of safetensors."""

from __future__ import annotations

import json
import math
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoModelForSequenceClassification,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)
from transformers.utils.logging import disable_progress_bar

from alignment.adapters import ADAPTER, adapted_layers, merge, save_adapter
from alignment.config import JobError
from alignment.manifest import MANIFEST, ArtifactError, read_manifest, write_manifest

disable_progress_bar()  # metrics.jsonl tells the progress; bars garble the log that admins read

PICKLED = {".bin", ".pt", ".pth", ".ckpt", ".pkl", ".pickle", ".msgpack", ".h5", ".py"}


def device() -> torch.device:
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def new_policy(
    tokenizer: PreTrainedTokenizerBase, *, width: int, depth: int, heads: int, context: int
) -> LlamaForCausalLM:
    """A randomly initialised Llama with tied embeddings; draws from torch's global generator."""
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=width,
        intermediate_size=64 * math.ceil(width * 8 / 3 / 64),
        num_hidden_layers=depth,
        num_attention_heads=heads,
        max_position_embeddings=context,
        tie_word_embeddings=True,
        bos_token_id=None,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    model = LlamaForCausalLM(config)
    model.generation_config.eos_token_id = tokenizer.eos_token_id
    model.generation_config.pad_token_id = tokenizer.pad_token_id
    return model.to(device()).eval()


def load_policy(path: str | Path) -> PreTrainedModel:
    """The causal language model of a checkpoint, in fp32, without dropout. Raises ArtifactError, JobError."""
    model = _load(AutoModelForCausalLM, path)
    if not head_is_plain(model):
        raise JobError(f"{type(model).__name__} does more than a matrix product after its last layer; use another")
    return model


@torch.no_grad()
def head_is_plain(model: PreTrainedModel) -> bool:
    """Whether the logits are the output weights times the last hidden state, as `token_logprobs` takes them.

    A bias (Phi), a scale (Cohere, Granite) or a soft cap (Gemma 2) would otherwise be left out silently.
    """
    ids = torch.arange(8, device=model.device)[None]
    hidden = model.base_model(input_ids=ids, use_cache=False).last_hidden_state
    plain = torch.nn.functional.linear(hidden, model.get_output_embeddings().weight)
    difference = model(input_ids=ids, use_cache=False).logits - plain
    return not difference.norm() > 1e-3 * plain.norm()  # damaged weights are not this check's business


def load_reward(path: str | Path) -> PreTrainedModel:
    """The reward model (one label) of a checkpoint, in fp32, without dropout. Raises ArtifactError, JobError."""
    model = _load(AutoModelForSequenceClassification, path)
    if model.config.num_labels != 1:
        raise JobError(f"{path} is no reward model: it has {model.config.num_labels} labels, a reward has one")
    return model


def reward_from_policy(path: str | Path) -> PreTrainedModel:
    """The policy's body under a fresh score head, N(0, 1/sqrt(d+1)): scores start with a spread near 1.

    Draws from torch's global generator. Source: Huang et al. 2024, "The N+ implementation details of RLHF".
    """
    model = _load(AutoModelForSequenceClassification, path, num_labels=1)
    width = model.config.get_text_config().hidden_size
    torch.nn.init.normal_(score_head(model).weight, std=1 / math.sqrt(width + 1))
    return model


def score_head(model: PreTrainedModel) -> torch.nn.Linear:
    """The linear layer that turns the last token's hidden state into a score."""
    head = getattr(model, "score", None)
    if not isinstance(head, torch.nn.Linear):
        raise JobError(f"{type(model).__name__} has no linear score head; use a decoder such as Llama as the parent")
    return head


def _load(kind: Any, path: str | Path, **overrides: Any) -> PreTrainedModel:
    refuse_unsafe_files(path)
    offline = {"local_files_only": True, "trust_remote_code": False}
    try:
        config = AutoConfig.from_pretrained(str(path), **offline, **overrides)
        model = kind.from_pretrained(
            str(path), config=config, dtype=torch.float32, use_safetensors=True, attn_implementation="sdpa", **offline
        )
    except (OSError, ValueError) as error:
        raise ArtifactError(f"cannot load a model from {path}: {error}") from error
    return without_dropout(model).to(device()).eval()


def refuse_unsafe_files(path: str | Path) -> None:
    """Raises ArtifactError for a directory that holds pickled weights, asks for its own code, or holds more than its
    manifest names: a file laid beside the others (an adapter, a chat template) would be loaded unverified."""
    path = Path(path)
    if not (path / "config.json").is_file():
        raise ArtifactError(f"{path} is no checkpoint: it has no config.json")
    for found in sorted(path.rglob("*")):
        if found.suffix in PICKLED:
            raise ArtifactError(f"{found} can run code when loaded; a checkpoint holds safetensors and JSON only")
    if (path / MANIFEST).is_file():
        listed = {MANIFEST, *read_manifest(path)["files"]}
        found = {str(p.relative_to(path)) for p in path.rglob("*") if p.is_file()}
        if extra := sorted(found - listed):
            raise ArtifactError(f"{path / extra[0]} is not named in the checkpoint's manifest; nobody vouches for it")
    if "auto_map" in json.loads((path / "config.json").read_text()):
        raise ArtifactError(f"{path}/config.json names code of its own (auto_map), which is never run")


def without_dropout(model: PreTrainedModel) -> PreTrainedModel:
    """With dropout a policy would differ from its frozen reference before the first step."""
    for module in model.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
    for name, value in vars(model.config).items():
        if "dropout" in name and isinstance(value, float):
            setattr(model.config, name, 0.0)
    for module in model.modules():
        if isinstance(getattr(module, "attention_dropout", None), float):
            module.attention_dropout = 0.0
    return model


@contextmanager
def evaluating(model: torch.nn.Module) -> Iterator[None]:
    """Without dropout and with a cache, as a policy samples and is measured, also between two steps of its training."""
    training = model.training
    model.eval()
    try:
        yield
    finally:
        model.train(training)


def save_checkpoint(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, directory: str | Path, card: dict[str, Any]
) -> str:
    """Write the artifact beside its place, sync it, rename it there, and return its digest.

    An adapter is written apart and then merged into the model, which is a plain one afterwards.
    """
    directory = Path(directory)
    fresh = directory.with_name(f"{directory.name}.tmp-{os.getpid()}")
    fresh.mkdir(parents=True)
    if adapted_layers(model):
        save_adapter(model, fresh / ADAPTER)
        merge(model)
    model.config.pad_token_id = tokenizer.pad_token_id
    model.save_pretrained(fresh)
    tokenizer.save_pretrained(fresh)
    (fresh / "card.json").write_text(json.dumps(card, indent=2, ensure_ascii=False) + "\n")
    digest = write_manifest(fresh, kind="checkpoint")
    sync(fresh)
    replace_directory(fresh, directory)
    return digest


def sync(directory: Path) -> None:
    """Flush every file below the directory, and the directory itself, to the disk; files become readable by all."""
    for path in [*directory.rglob("*"), directory]:
        if path.is_file():
            path.chmod(0o644)  # transformers makes weights private; the engine may be another user
        handle = os.open(path, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def replace_directory(fresh: Path, place: Path) -> None:
    """Rename a finished directory to its place; an older one there steps aside first and is then removed."""
    aside = place.with_name(f"{place.name}.old-{os.getpid()}")
    if place.exists():
        place.rename(aside)
    fresh.rename(place)
    sync_parent(place)
    shutil.rmtree(aside, ignore_errors=True)


def sync_parent(path: Path) -> None:
    handle = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
