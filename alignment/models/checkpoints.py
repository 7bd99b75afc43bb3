"""Checkpoints: make, load and save policies and reward models as Hugging Face directories of safetensors."""

from __future__ import annotations

import json
import math
import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
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

from alignment.config import JobError
from alignment.manifest import ArtifactError, read_json, refuse_unsafe_files, write_manifest
from alignment.models.adapters import ADAPTER, adapted_layers, merge, save_adapter

disable_progress_bar()  # metrics.jsonl tells the progress; bars garble the log that admins read

SHARD_SIZE = "5GB"  # a file of weights


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
    demand_policy(path)
    model = _load(AutoModelForCausalLM, path)
    if not head_is_plain(model):
        raise JobError(f"{type(model).__name__} does more than a matrix product after its last layer; use another")
    return model


def demand_policy(path: str | Path) -> None:
    """Raise JobError for a reward model, whose body would load as a policy where its embeddings are tied."""
    if "SequenceClassification" in architecture(path):
        raise JobError(f"{path} is a reward model ({architecture(path)}), which writes no text; name a policy here")


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
    """The reward model of a checkpoint (one label, or several that have names), in fp32, without dropout.

    Raises ArtifactError, JobError.
    """
    if not architecture(path).endswith("SequenceClassification"):
        found = architecture(path) or "its config.json names no architecture"
        raise JobError(f"{path} is no reward model ({found}); name the checkpoint of the stage reward here")
    model = _load(AutoModelForSequenceClassification, path)
    labels = model.config.num_labels
    if labels != 1 and any(name.startswith("LABEL_") for name in model.config.id2label.values()):
        raise JobError(f"{path} is no reward model: it has {labels} labels without names, a reward has one")
    return model


def reward_from_policy(path: str | Path, heads: Sequence[str] = ("reward",)) -> PreTrainedModel:
    """The policy's body under fresh score heads, N(0, 1/sqrt(d+1)): scores start with a spread near 1.

    The heads are the rows of one linear layer, named by the config's labels; a single reward stays without a name.
    Draws from torch's global generator. Source: Huang et al. 2024, "The N+ implementation details of RLHF".
    """
    demand_policy(path)
    model = _load(AutoModelForSequenceClassification, path, fresh="score", num_labels=len(heads))
    if list(heads) != ["reward"]:
        model.config.id2label = dict(enumerate(heads))
        model.config.label2id = {name: number for number, name in enumerate(heads)}
    width = model.config.get_text_config().hidden_size
    torch.nn.init.normal_(score_head(model).weight, std=1 / math.sqrt(width + 1))
    return model


def score_head(model: PreTrainedModel) -> torch.nn.Linear:
    """The linear layer that turns the last token's hidden state into a score."""
    head = getattr(model, "score", None)
    if not isinstance(head, torch.nn.Linear):
        raise JobError(f"{type(model).__name__} has no linear score head; use a decoder such as Llama as the parent")
    return head


def _load(kind: Any, path: str | Path, *, fresh: str = "", **overrides: Any) -> PreTrainedModel:
    """The model of a directory in fp32; only weights of the module `fresh` may be absent and so begin at random."""
    refuse_unsafe_files(path)
    offline = {"local_files_only": True, "trust_remote_code": False}
    how = {"dtype": torch.float32, "use_safetensors": True, "attn_implementation": "sdpa", "output_loading_info": True}
    try:
        config = AutoConfig.from_pretrained(str(path), **offline, **overrides)
        model, found = kind.from_pretrained(str(path), config=config, **how, **offline)
    except (OSError, ValueError, SafetensorError) as error:
        raise ArtifactError(f"cannot load a model from {path}: {error}") from error
    absent = sorted(name for name in found["missing_keys"] if not fresh or not name.startswith(f"{fresh}."))
    if absent:
        raise ArtifactError(f"{path} lacks the weights {absent[0]} of a {type(model).__name__}; name another model")
    return without_dropout(model).to(device()).eval()


def architecture(path: str | Path) -> str:
    """The class that wrote a directory's weights, such as LlamaForCausalLM; empty where config.json does not say."""
    refuse_unsafe_files(path)
    named = read_json(Path(path) / "config.json").get("architectures")
    return named[0] if named else ""


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
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    directory: str | Path,
    card: dict[str, Any],
    shard_size: str = SHARD_SIZE,
) -> str:
    """Write a model and its tokenizer as an artifact and return its digest.

    An adapter is written apart and then merged into the model, which is a plain one afterwards. Weights larger than
    `shard_size` go into several files, which model.safetensors.index.json names.
    """

    def write(fresh: Path) -> None:
        if adapted_layers(model):
            save_adapter(model, fresh / ADAPTER)
            merge(model)
        model.config.pad_token_id = tokenizer.pad_token_id
        model.save_pretrained(fresh, max_shard_size=shard_size)
        tokenizer.save_pretrained(fresh)

    return save_directory(directory, write, card, kind="checkpoint")


def save_directory(directory: str | Path, write: Callable[[Path], Any], card: dict[str, Any], *, kind: str) -> str:
    """Have an artifact written beside its place, add card and manifest, sync it, rename it there; return its digest."""
    directory = Path(directory)
    fresh = directory.with_name(f"{directory.name}.tmp-{os.getpid()}")
    fresh.mkdir(parents=True)
    try:
        write(fresh)
        (fresh / "card.json").write_text(json.dumps(card, indent=2, ensure_ascii=False) + "\n")
        digest = write_manifest(fresh, kind=kind)
        sync(fresh)
    except Exception:
        shutil.rmtree(fresh, ignore_errors=True)  # on a full disk the room is needed to say so
        raise
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
