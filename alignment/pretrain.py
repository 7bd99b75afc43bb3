"""The stage `pretrain`: next-token prediction on plain text, from random weights or from a parent.

Inputs, each optional: parent (a policy to go on from), tokenizer (of the stage `tokenizer`). Documents follow each
other in blocks of `context` tokens, parted by end tokens.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from alignment import devices, loop
from alignment.config import Job, JobError, PretrainConfig
from alignment.data.batches import batch_at, step_count
from alignment.data.documents import encode_documents, positions_of, read_documents, training_documents
from alignment.data.text import load_tokenizer, train_tokenizer
from alignment.loop import Step, Watch
from alignment.measures.ngram import KneserNey
from alignment.models.card import card_of
from alignment.models.checkpoints import load_policy, new_policy, save_checkpoint
from alignment.models.logprob import hidden_states, token_logprobs
from alignment.models.precision import autocast, prepare_for_training

QUICK_BLOCKS = 32  # held-out blocks measured while training


def run(job: Job, config: PretrainConfig) -> dict[str, Any]:
    """Train to the end and write the checkpoint."""
    documents = training_documents(config.text)
    model, tokenizer = _start(job, config, documents)
    tokens = encode_documents(tokenizer, documents)
    held_out = {path: read_documents(path) for path in config.held_out_text}
    facts = train(job, config, model, tokens, encode_documents(tokenizer, [d for ds in held_out.values() for d in ds]))
    known = baselines_of(tokenizer, documents) if held_out else {}
    metrics = [bits_per_byte(model, tokenizer, known, kept, Path(path).name) for path, kept in held_out.items()]
    card = card_of(job, config, metrics=metrics, parameters=model.num_parameters(), tokens=len(tokens), **facts)
    path = Path(job.output) / "checkpoint"
    digest = save_checkpoint(model, tokenizer, path, card)
    return {"checkpoint": {"path": str(path), "sha256": digest}, "metrics": metrics}


def _start(job: Job, config: PretrainConfig, documents: list[str]) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    if parent := job.inputs.get("parent"):
        return load_policy(parent.path), load_tokenizer(parent.path)
    given = job.inputs.get("tokenizer")
    tokenizer = load_tokenizer(given.path) if given else train_tokenizer(documents, config.vocabulary)
    shape = {"width": config.width, "depth": config.depth, "heads": config.heads, "context": config.context}
    return new_policy(tokenizer, **shape), tokenizer


def blocks_of(tokens: torch.Tensor, context: int, *, seed: int, epoch: int) -> torch.Tensor:
    """(blocks, context + 1) ids; where blocks begin moves from epoch to epoch, so their edges do too."""
    count = (len(tokens) - context - 1) // context
    if count < 1:
        raise JobError(f"the text has {len(tokens)} tokens, too few for two blocks of {context}; add text")
    offset = int(np.random.Generator(np.random.PCG64([seed, epoch, 1])).integers(context))
    return tokens[offset : offset + count * context + 1].unfold(0, context + 1, context)


def block_loss(model: PreTrainedModel, blocks: torch.Tensor, end: int | None = None) -> torch.Tensor:
    """Sum of the negative log-probabilities in nats of blocks[:, 1:], shape (); given the end token, a document sees
    itself alone."""
    positions = None if end is None else positions_of(blocks[:, :-1], end)
    hidden = hidden_states(model, blocks[:, :-1], positions)
    weight = model.get_output_embeddings().weight
    return -token_logprobs(hidden.flatten(0, 1), blocks[:, 1:].flatten(), weight).sum()


def train(
    job: Job, config: PretrainConfig, model: PreTrainedModel, tokens: torch.Tensor, held_out: torch.Tensor
) -> dict[str, Any]:
    """The run, from the saved state where there is one; returns facts for the card."""
    plan, precision = config.optimization, prepare_for_training(model, config, job)
    loss_of = torch.compile(block_loss, dynamic=False) if config.compile else block_loss
    end = int(tokens[0]) if config.separate_documents else None  # the stream begins with an end token
    count = len(blocks_of(tokens, config.context, seed=job.seed, epoch=0)) // plan.batch_size * plan.batch_size
    if not count:
        raise JobError(f"batch_size is {plan.batch_size} but the text makes fewer blocks; lower it or add text")
    steps = step_count(count, batch_size=plan.batch_size, epochs=plan.epochs, max_steps=plan.max_steps)

    def take_step(step: int) -> Step:
        rows = batch_at([1] * count, batch_size=plan.batch_size, seed=job.seed, step=step)
        epoch, loss = step * plan.batch_size // count, 0.0
        blocks = blocks_of(tokens, config.context, seed=job.seed, epoch=epoch)[rows].long().to(model.device)
        sizes = [config.context] * len(blocks)
        for rows, counts in devices.deal(sizes, range(len(blocks)), config.micro_batch * config.context):
            with autocast(precision):
                nats = loss_of(model, blocks[rows], end) * counts / (len(blocks) * config.context)
            nats.backward()
            loss += nats.item()
        loss = devices.summed_number(loss)
        return Step(loss, len(blocks) * config.context, {"loss_nats": loss})

    def measure() -> dict[str, float]:
        return {"held_out_loss_nats": quick_loss(model, held_out, config.context)}

    watch = Watch(measure, "held_out_loss_nats", higher_is_better=False) if len(held_out) > config.context else None
    facts = loop.train(job, plan, model, steps=steps, take_step=take_step, watch=watch)
    return {"tokens_seen": facts["steps"] * plan.batch_size * config.context, "precision": precision, **facts}


@torch.no_grad()
def quick_loss(model: PreTrainedModel, tokens: torch.Tensor, context: int) -> float:
    """Nats a token on evenly spaced held-out blocks."""
    blocks = tokens.unfold(0, context + 1, context)
    picked = blocks[:: max(1, len(blocks) // QUICK_BLOCKS)][:QUICK_BLOCKS].long().to(model.device)
    return sum(block_loss(model, part).item() for part in picked.split(4)) / (len(picked) * context)


@torch.no_grad()
def stream_bits(model: PreTrainedModel, tokens: torch.Tensor) -> float:
    """Bits for tokens[1:]: windows of the model's context, of which the second half counts (all of the first's)."""
    context = model.config.max_position_embeddings
    half, nats = context // 2, 0.0
    for start in range(0, max(1, len(tokens) - 1 - half), half):
        window = tokens[start : start + context + 1].long().to(model.device)[None]
        fresh = 0 if start == 0 else half
        hidden = hidden_states(model, window[:, :-1])[0, fresh:]
        weight = model.get_output_embeddings().weight
        nats -= token_logprobs(hidden, window[0, 1 + fresh :], weight).double().sum().item()
    return nats / math.log(2)


def baselines_of(tokenizer: PreTrainedTokenizerBase, documents: list[str]) -> dict[str, KneserNey]:
    """5-grams of the training text's bytes and, for vocabularies that fit, of this tokenizer's tokens."""
    known = {"byte_5gram": KneserNey(bytes_of(documents), order=5, alphabet=256)}
    if len(tokenizer) <= 4096:
        tokens = encode_documents(tokenizer, documents).numpy()
        known["token_5gram"] = KneserNey(tokens, order=5, alphabet=len(tokenizer))
    return known


def bytes_of(documents: list[str]) -> np.ndarray:
    """The bytes of the documents, each after and before a zero byte that stands for an end token."""
    return np.frombuffer("\0".join(["", *documents, ""]).encode(), np.uint8)


def bits_per_byte(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    known: dict[str, KneserNey],
    kept: list[str],
    name: str,
) -> dict[str, Any]:
    """The metric of one held-out text beside the baselines that know the training text.

    All predict the same events, every document and its end; an end counts as one byte.
    """
    symbols = {"byte_5gram": bytes_of(kept), "token_5gram": encode_documents(tokenizer, kept).numpy()}
    size = len(symbols["byte_5gram"]) - 1
    baselines = {key: ngrams.total_bits(symbols[key][1:]) / size for key, ngrams in known.items()}
    value = stream_bits(model, encode_documents(tokenizer, kept)) / size
    note = "" if value < min(baselines.values()) else "below its baseline: a 5-gram predicts this text better"
    facts = {"n": size, "unit": "bits/byte", "baselines": baselines, "note": note}
    return {"key": f"bits_per_byte:{name}", "value": value, **facts}
