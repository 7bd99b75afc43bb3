"""Supervised fine-tuning on dialogues: the loss is on the assistant's tokens, its end token included."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any, NamedTuple

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from alignment import loop
from alignment.batches import batch_at, mask_of, micro_batches, pad, step_count
from alignment.card import card_of
from alignment.config import Job, JobError, SFTConfig
from alignment.logprob import completion_logprobs
from alignment.loop import Step
from alignment.model import load_policy, save_checkpoint
from alignment.precision import autocast, prepare_for_training
from alignment.rows import read_jsonl
from alignment.text import assistant_mask, encode_completion, encode_prompt, load_tokenizer, truncate


class Dialogue(NamedTuple):
    """Token ids, and 1 where the loss looks."""

    ids: list[int]
    learn: list[int]


def run(job: Job, config: SFTConfig) -> dict[str, Any]:
    """Train to the end and write the checkpoint. Input: parent."""
    if "parent" not in job.inputs:
        raise JobError("sft needs the input 'parent', the checkpoint to fine-tune")
    parent = job.inputs["parent"].path
    model, tokenizer = load_policy(parent), load_tokenizer(parent)
    dialogues = read_dialogues(config.rows, tokenizer, config.max_length)
    facts = train(job, config, model, dialogues, tokenizer.pad_token_id)
    metrics = []
    if config.held_out_rows:
        unseen = read_dialogues(config.held_out_rows, tokenizer, config.max_length)
        metrics = [held_out_metric(model, tokenizer, unseen)]
    path = Path(job.output) / "checkpoint"
    digest = save_checkpoint(model, tokenizer, path, card_of(job, config, metrics=metrics, **facts))
    return {"checkpoint": {"path": str(path), "sha256": digest}, "metrics": metrics}


def read_dialogues(path: str, tokenizer: PreTrainedTokenizerBase, max_length: int) -> list[Dialogue]:
    """The encoded rows of a JSONL file. Raises JobError naming the line that cannot be read."""
    dialogues = []
    for number, row in read_jsonl(path, "dialogues"):
        try:
            dialogues.append(encode_row(row, tokenizer, max_length))
        except (JobError, KeyError, TypeError) as error:
            raise JobError(f"{path} line {number}: {error or type(error).__name__}") from error
    if not dialogues:
        raise JobError(f"{path} holds no dialogue")
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


def dialogue_loss(model: PreTrainedModel, dialogues: list[Dialogue], padding: int) -> torch.Tensor:
    """Sum of the negative log-probabilities in nats of the learnt tokens, shape ()."""
    ids = pad([d.ids for d in dialogues], padding).to(model.device)
    mask = mask_of([d.ids for d in dialogues]).to(model.device)
    learn = pad([d.learn for d in dialogues], 0).bool().to(model.device)
    return -completion_logprobs(model, ids, mask, learn).sum()


def learnt_tokens(dialogues: list[Dialogue]) -> int:
    """Tokens in the loss; a row's first token is never predicted."""
    return sum(sum(d.learn[1:]) for d in dialogues)


def accumulate(
    model: PreTrainedModel, dialogues: list[Dialogue], padding: int, *, micro_tokens: int, precision: str
) -> float:
    """Add the gradient of the mean loss a token over these rows and return that mean in nats.

    Divided by the tokens of the whole step, not of each part: how rows are cut into parts changes nothing.
    """
    tokens, loss = max(1, learnt_tokens(dialogues)), 0.0
    for part in micro_batches([len(d.ids) for d in dialogues], range(len(dialogues)), micro_tokens):
        with autocast(precision):
            nats = dialogue_loss(model, [dialogues[row] for row in part], padding) / tokens
        nats.backward()
        loss += nats.item()
    return loss


def train(
    job: Job, config: SFTConfig, model: PreTrainedModel, dialogues: list[Dialogue], padding: int
) -> dict[str, Any]:
    """The run, from the saved state where there is one; returns facts for the card."""
    plan, precision = config.optimization, prepare_for_training(model, config, job.seed)
    lengths = [len(d.ids) for d in dialogues]
    steps = step_count(len(lengths), batch_size=plan.batch_size, epochs=plan.epochs, max_steps=plan.max_steps)

    def take_step(step: int) -> Step:
        batch = [dialogues[row] for row in batch_at(lengths, batch_size=plan.batch_size, seed=job.seed, step=step)]
        loss = accumulate(model, batch, padding, micro_tokens=config.micro_tokens, precision=precision)
        return Step(loss, sum(len(d.ids) for d in batch), {"loss_nats": loss, "tokens": learnt_tokens(batch)})

    facts = loop.train(job, plan, model, steps=steps, take_step=take_step)
    return {"rows": len(dialogues), "precision": precision, **facts}


@torch.no_grad()
def held_out_metric(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, dialogues: list[Dialogue]
) -> dict[str, Any]:
    """Bits per byte of unseen answers given their prompts; an answer's end counts as one byte."""
    lengths, padding = [len(d.ids) for d in dialogues], tokenizer.pad_token_id
    parts = micro_batches(lengths, range(len(dialogues)), 8192)
    nats = sum(dialogue_loss(model, [dialogues[row] for row in part], padding).item() for part in parts)
    size = sum(answer_bytes(tokenizer, dialogue) for dialogue in dialogues)
    value = nats / math.log(2) / size
    return {"key": "answer_bits_per_byte", "value": value, "n": len(dialogues), "unit": "bits/byte"}


def answer_bytes(tokenizer: PreTrainedTokenizerBase, dialogue: Dialogue) -> int:
    learnt = [token for token, learn in zip(dialogue.ids, dialogue.learn, strict=True) if learn]
    ends = learnt.count(tokenizer.eos_token_id)
    return len(tokenizer.decode(learnt, skip_special_tokens=True).encode()) + ends
