"""The stage `sft`: supervised fine-tuning on dialogues, the loss on the assistant's tokens and its end token.

Input: parent (a policy). Several dialogues may share a row; each still sees itself alone.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any, NamedTuple

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from alignment import loop
from alignment.config import Job, JobError, SFTConfig
from alignment.data.batches import batch_at, bins, mask_of, micro_batches, pad, step_count
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
from alignment.models.logprob import completion_logprobs, hidden_states
from alignment.models.precision import autocast, prepare_for_training

WATCHED = 64  # held-out dialogues measured while training


class Dialogue(NamedTuple):
    """Token ids, and 1 where the loss looks."""

    ids: list[int]
    learn: list[int]


class Row(NamedTuple):
    """One row of a batch: one or more dialogues; positions begin at 0 with each."""

    ids: list[int]
    learn: list[int]
    positions: list[int]


def run(job: Job, config: SFTConfig) -> dict[str, Any]:
    """Train to the end and write the checkpoint. Input: parent."""
    parent = job.input_path("parent")
    model, tokenizer = load_policy(parent), load_tokenizer(parent)
    demand_prefixes(tokenizer)
    dialogues = read_dialogues(config.rows, tokenizer, config.max_length)
    unseen = read_dialogues(config.held_out_rows, tokenizer, config.max_length) if config.held_out_rows else []
    facts = train(job, config, model, dialogues, unseen, tokenizer.pad_token_id)
    metrics = [held_out_metric(model, tokenizer, unseen)] if unseen else []
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


def join(dialogues: list[Dialogue]) -> Row:
    """The dialogues one after another in one row; the first token of each is predicted by nobody."""
    parts = [(d.ids, [0, *d.learn[1:]], range(len(d.ids))) for d in dialogues]
    return Row(*([value for part in parts for value in part[column]] for column in range(3)))


def rows_of(dialogues: list[Dialogue], capacity: int) -> list[Row]:
    """Rows of at most `capacity` tokens with as many dialogues as fit; 0 leaves each dialogue in a row of its own."""
    groups = bins([len(d.ids) for d in dialogues], capacity) if capacity else [[i] for i in range(len(dialogues))]
    return [join([dialogues[i] for i in group]) for group in groups]


def row_loss(model: PreTrainedModel, rows: list[Row], padding: int) -> torch.Tensor:
    """Sum of the negative log-probabilities in nats of the learnt tokens, shape ()."""
    ids = pad([row.ids for row in rows], padding).to(model.device)
    mask = mask_of([row.ids for row in rows]).to(model.device)
    learn = pad([row.learn for row in rows], 0).bool().to(model.device)
    shared = any(row.positions.count(0) > 1 for row in rows)  # alone in its row, causal attention needs no mask
    positions = pad([row.positions for row in rows], 0).to(model.device) if shared else None
    return -completion_logprobs(model, ids, mask, learn, positions=positions).sum()


@torch.no_grad()
def demand_packing(model: PreTrainedModel) -> None:
    """Raise JobError for a model whose attention does not keep the texts of one row apart."""
    text = torch.arange(8, device=model.device)[None] + 1
    positions = torch.arange(8, device=model.device).repeat(2)[None]
    packed = hidden_states(model, torch.cat([text.flip(1), text], dim=1), positions)[:, 8:]
    if not torch.allclose(packed, hidden_states(model, text), atol=1e-3):
        raise JobError(f"{type(model).__name__} lets the dialogues of one row see each other; set packing to false")


def learnt_tokens(dialogues: list[Dialogue]) -> int:
    """Tokens in the loss; a row's first token is never predicted."""
    return sum(sum(d.learn[1:]) for d in dialogues)


def accumulate(
    model: PreTrainedModel,
    dialogues: list[Dialogue],
    padding: int,
    *,
    micro_tokens: int,
    precision: str = "fp32",
    capacity: int = 0,
) -> float:
    """Add the gradient of the mean loss a token over these dialogues and return that mean in nats.

    Divided by the tokens of the whole step, not of each part: how dialogues are packed (`rows_of`) and cut into parts
    of at most `micro_tokens` padded tokens changes nothing.
    """
    tokens, loss, rows = max(1, learnt_tokens(dialogues)), 0.0, rows_of(dialogues, capacity)
    for part in micro_batches([len(row.ids) for row in rows], range(len(rows)), micro_tokens):
        with autocast(precision):
            nats = row_loss(model, [rows[i] for i in part], padding) / tokens
        nats.backward()
        loss += nats.item()
    return loss


def train(
    job: Job,
    config: SFTConfig,
    model: PreTrainedModel,
    dialogues: list[Dialogue],
    unseen: list[Dialogue],
    padding: int,
) -> dict[str, Any]:
    """The run, from the saved state where there is one; returns facts for the card. `unseen` choose the weights."""
    plan, precision = config.optimization, prepare_for_training(model, config, job)
    if config.packing:
        demand_packing(model)
    capacity = config.max_length if config.packing else 0
    how = {"micro_tokens": config.micro_tokens, "precision": precision, "capacity": capacity}
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
    facts = loop.train(job, plan, model, steps=steps, take_step=take_step, watch=watch)
    return {"rows": len(dialogues), "precision": precision, **facts}


@torch.no_grad()
def held_out_nats(model: PreTrainedModel, dialogues: list[Dialogue], padding: int) -> float:
    """Sum of the negative log-probabilities in nats of all their learnt tokens."""
    rows = rows_of(dialogues, capacity=0)
    parts = micro_batches([len(row.ids) for row in rows], range(len(rows)), 8192)
    return sum(row_loss(model, [rows[i] for i in part], padding).item() for part in parts)


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
