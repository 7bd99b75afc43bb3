"""The stage `sft`: supervised fine-tuning on dialogues, the loss on the assistant's tokens and its end token.

Input: parent (a policy).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from alignment import devices, loop
from alignment.config import Job, JobError, SFTConfig
from alignment.data.batches import MICRO_TOKENS, batch_at, mask_of, micro_batches, pad, step_count
from alignment.data.rows import read_jsonl
from alignment.data.text import (
    assistant_mask,
    demand_prefixes,
    encode_completion,
    encode_prompt,
    load_tokenizer,
    truncate,
)
from alignment.loop import Step, Watch
from alignment.models.card import card_of
from alignment.models.checkpoints import load_policy, save_checkpoint
from alignment.models.logprob import completion_logprobs
from alignment.models.precision import autocast, prepare_for_training
from alignment.sampling.shown import shown

WATCHED = 64  # held-out dialogues measured while training


class Dialogue(NamedTuple):
    """Token ids, and 1 where the loss looks."""

    ids: list[int]
    learn: list[int]


def run(job: Job, config: SFTConfig) -> dict[str, Any]:
    """Train to the end and write the checkpoint. Input: parent."""
    parent = job.input_path("parent")
    model, tokenizer = load_policy(parent), load_tokenizer(parent)
    demand_prefixes(tokenizer)
    dialogues = read_dialogues(config.rows, tokenizer, config.max_length)
    unseen = read_dialogues(config.held_out_rows, tokenizer, config.max_length) if config.held_out_rows else []
    show = shown(job, model, tokenizer, map(prompt_of, unseen or dialogues), config.show)
    facts = train(job, config, model, dialogues, unseen, tokenizer.pad_token_id, show)
    metrics = [held_out_metric(model, tokenizer, unseen)] if unseen else []
    path = Path(job.output) / "checkpoint"
    digest = save_checkpoint(model, tokenizer, path, card_of(job, config, metrics=metrics, **facts))
    return {"checkpoint": {"path": str(path), "sha256": digest}, "metrics": metrics}


def prompt_of(dialogue: Dialogue) -> list[int]:
    """What stands before the first learnt token."""
    return dialogue.ids[: dialogue.learn.index(1)] if 1 in dialogue.learn else []


def read_dialogues(path: str, tokenizer: PreTrainedTokenizerBase, max_length: int) -> list[Dialogue]:
    """The encoded rows of a JSONL file. Raises JobError naming the line that cannot be read."""
    dialogues = []
    for number, row in read_jsonl(path, "dialogues"):
        try:
            dialogues.append(encode_row(row, tokenizer, max_length))
        except (JobError, KeyError, TypeError) as error:
            raise JobError(f"{path} line {number}: {error or type(error).__name__}") from error
    if not dialogues:
        raise JobError(f"{path} holds no dialogue; write one JSON object a line")
    return dialogues


def encode_row(row: dict[str, Any], tokenizer: PreTrainedTokenizerBase, max_length: int) -> Dialogue:
    """One row: "messages" (all assistant turns are learnt) or "prompt" and "completion" (the completion is)."""
    if "messages" in row:
        ids, learn = assistant_mask(tokenizer, row["messages"])
        return Dialogue(ids[-max_length:], learn[-max_length:])
    if not {"prompt", "completion"} <= set(row):
        raise JobError('a row has "messages", or "prompt" and "completion"')
    prompt = encode_prompt(tokenizer, row["prompt"])
    prompt, completion = truncate(prompt, encode_completion(tokenizer, row["prompt"], row["completion"]), max_length)
    return Dialogue(prompt + completion, [0] * len(prompt) + [1] * len(completion))


def sum_nats(model: PreTrainedModel, dialogues: Sequence[Dialogue], padding: int) -> torch.Tensor:
    """Sum of the negative log-probabilities in nats of the learnt tokens, shape ()."""
    rows = [dialogue.ids for dialogue in dialogues]
    learn = pad([dialogue.learn for dialogue in dialogues], 0).bool()
    ids, mask, learn = (t.to(model.device) for t in (pad(rows, padding), mask_of(rows), learn))
    return -completion_logprobs(model, ids, mask, learn).sum()


def learnt_tokens(dialogues: list[Dialogue]) -> int:
    """Tokens in the loss; a row's first token is never predicted."""
    return sum(sum(d.learn[1:]) for d in dialogues)


def accumulate(
    model: PreTrainedModel, dialogues: list[Dialogue], padding: int, *, micro_tokens: int, precision: str = "fp32"
) -> float:
    """Add the gradient of the mean loss a token over these dialogues and return that mean in nats.

    Divided by the tokens of the whole step, not of each part: how dialogues are cut into parts of at most
    `micro_tokens` tokens changes nothing.
    """
    tokens, loss = max(1, learnt_tokens(dialogues)), 0.0
    for rows, counts in devices.deal([len(d.ids) for d in dialogues], range(len(dialogues)), micro_tokens):
        with autocast(precision):
            nats = sum_nats(model, [dialogues[i] for i in rows], padding) * counts / tokens
        nats.backward()
        loss += nats.item()
    return devices.summed_number(loss)


def train(
    job: Job,
    config: SFTConfig,
    model: PreTrainedModel,
    dialogues: list[Dialogue],
    unseen: list[Dialogue],
    padding: int,
    show: Callable[[int], None] | None = None,
) -> dict[str, Any]:
    """The run, from the saved state where there is one; returns facts for the card. `unseen` choose the weights."""
    plan, precision = config.optimization, prepare_for_training(model, config, job)
    how = {"micro_tokens": config.micro_tokens or MICRO_TOKENS, "precision": precision}
    lengths = [len(d.ids) for d in dialogues]
    steps = step_count(len(lengths), batch_size=plan.batch_size, epochs=plan.epochs, max_steps=plan.max_steps)

    def take_step(step: int) -> Step:
        batch = [dialogues[row] for row in batch_at(lengths, batch_size=plan.batch_size, seed=job.seed, step=step)]
        loss = accumulate(model, batch, padding, **how)
        return Step(loss, sum(len(d.ids) for d in batch), {"loss_nats": loss, "tokens": learnt_tokens(batch)})

    def measure() -> dict[str, float]:
        return {"held_out_nats": held_out_nats(model, watched, padding) / max(1, learnt_tokens(watched))}

    watched = unseen[:: max(1, len(unseen) // WATCHED)][:WATCHED]
    watch = Watch(measure, "held_out_nats", higher_is_better=False) if watched else None
    facts = loop.train(job, plan, model, steps=steps, take_step=take_step, watch=watch, show=show)
    return {"rows": len(dialogues), "precision": precision, **facts}


@torch.no_grad()
def held_out_nats(model: PreTrainedModel, dialogues: list[Dialogue], padding: int) -> float:
    """Sum of the negative log-probabilities in nats of all their learnt tokens."""
    parts = micro_batches([len(d.ids) for d in dialogues], range(len(dialogues)), 8192)
    return sum(sum_nats(model, [dialogues[i] for i in part], padding).item() for part in parts)


def held_out_metric(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, dialogues: list[Dialogue]
) -> dict[str, Any]:
    """Bits per byte of unseen answers given their prompts; an answer's end counts as one byte."""
    nats = held_out_nats(model, dialogues, tokenizer.pad_token_id)
    size = sum(answer_bytes(tokenizer, dialogue) for dialogue in dialogues)
    value = nats / math.log(2) / size
    note = "some of these rows also chose the best weights of the run"
    return {"key": "answer_bits_per_byte", "value": value, "n": len(dialogues), "unit": "bits/byte", "note": note}


def answer_bytes(tokenizer: PreTrainedTokenizerBase, dialogue: Dialogue) -> int:
    learnt = [token for token, learn in zip(dialogue.ids, dialogue.learn, strict=True) if learn]
    ends = learnt.count(tokenizer.eos_token_id)
    return len(tokenizer.decode(learnt, skip_special_tokens=True).encode()) + ends
