"""Rollouts: completions that the policy under training samples, with all that the updates need to know of them.

N completions of one rollout fill rows of tensors. A tensor with a second dimension is aligned with the tokens: place t
belongs to token t of prompt and completion, so a log-probability stands where its token stands.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from alignment import devices
from alignment.config import JobError
from alignment.config.online import Sampling
from alignment.data.batches import MICRO_TOKENS, pad
from alignment.data.pairs import read_pairs
from alignment.data.rows import read_jsonl
from alignment.data.text import Messages, encode_prompt
from alignment.models.logprob import completion_logprobs
from alignment.models.sequences import Batch
from alignment.sampling.decode import Sample, sample, seed_of

LARGEST_DIFFERENCE = {"fp32": 1e-3, "bf16": 0.5}  # nats a token between sampler and trainer; fp32 gives about 1e-5
HELD_OUT_SHARE = 0.1


class Prompt(NamedTuple):
    id: Any
    messages: Messages
    ids: list[int]  # with the opening of the assistant's turn; the end of it, where the context is too short


class Completion(NamedTuple):
    """One sampled completion of one prompt."""

    prompt: Prompt
    sample: Sample


def read_prompts(
    path: str, snapshot: Path | None, tokenizer: PreTrainedTokenizerBase, *, room: int
) -> list[Prompt]:
    """The prompts of a file, else the distinct training prompts of the snapshot, each within `room` tokens.

    Raises JobError where there is none, or `room` leaves no place for one.
    """
    if room < 1:
        raise JobError("max_new_tokens leaves no room for a prompt: it must stay below the parent's context")
    rows = _file_rows(path) if path else _snapshot_rows(snapshot)
    found = [Prompt(key, messages, encode_prompt(tokenizer, messages)[-room:]) for key, messages in rows]
    if not found:
        raise JobError(f"{path or snapshot} holds no prompt to learn from")
    return found


def _file_rows(path: str) -> Iterator[tuple[Any, Messages]]:
    for number, row in read_jsonl(path, "prompts"):
        if not {"id", "messages"} <= set(row):
            raise JobError(f'{path} line {number}: a prompt has "id" and "messages"')
        yield row["id"], row["messages"]


def _snapshot_rows(snapshot: Path | None) -> Iterator[tuple[Any, Messages]]:
    if snapshot is None:
        raise JobError("there are no prompts: name a file in prompts, or give the input 'snapshot'")
    yield from enumerate({str(pair.prompt): pair.prompt for pair in read_pairs(snapshot, "train")}.values())


def set_aside(prompts: Sequence[Prompt], most: int) -> tuple[list[Prompt], list[Prompt]]:
    """(for training, held out): a tenth of the prompts and at most `most` are held out, by the hash of their text.

    A pure function of the texts, so every arm and every resumed run holds out the same ones. Equal texts stay together.
    """
    order = sorted({_text_hash(prompt) for prompt in prompts})
    held_out = set(order[: min(most, int(HELD_OUT_SHARE * len(order)))])
    kept = [prompt for prompt in prompts if _text_hash(prompt) not in held_out]
    return kept, [prompt for prompt in prompts if _text_hash(prompt) in held_out]


def _text_hash(prompt: Prompt) -> bytes:
    return hashlib.sha256(str(prompt.messages).encode()).digest()


def prompts_at(prompts: Sequence[Prompt], size: int, *, seed: int, number: int) -> list[Prompt]:
    """The prompts of rollout `number`: a pure function of its arguments. Every epoch is a new order of all of them."""
    places = range(number * size, (number + 1) * size)
    orders = {epoch: _order(len(prompts), seed, epoch) for epoch in {place // len(prompts) for place in places}}
    return [prompts[orders[place // len(prompts)][place % len(prompts)]] for place in places]


def _order(count: int, *key: int) -> np.ndarray:
    return np.random.Generator(np.random.PCG64(list(key))).permutation(count)


def minibatch_at(rows: int, size: int, *, seed: int, step: int) -> list[int]:
    """Row numbers of a step's minibatch: each pass over a rollout is a new order of its rows."""
    one_pass, place = divmod(step, rows // size)
    return _order(rows, seed, one_pass)[place * size : (place + 1) * size].tolist()


def sample_completions(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    prompts: Sequence[Prompt],
    how: Sampling,
    *,
    seed: int,
    occasion: Sequence[Any],
) -> list[Completion]:
    """`how.completions` of each prompt, in the prompts' order; each rank samples those of its share of the prompts.

    Each has its own seed, a pure function of (seed, occasion, prompt, number): no other completion changes it. The
    numbers of a prompt that comes twice go on, so that it is not answered twice in the same words.
    """
    rows, met = [], Counter()
    for prompt in prompts:
        first = met[str(prompt.id)]
        rows += [(prompt, number) for number in range(first, first + how.completions)]
        met[str(prompt.id)] += how.completions
    groups = [rows[start : start + how.completions] for start in range(0, len(rows), how.completions)]
    mine = devices.shares([1] * len(groups), range(len(groups)), devices.size())[devices.rank()]
    own = [row for number in mine for row in groups[number]]
    found = sample(
        model,
        tokenizer,
        [prompt.ids for prompt, _ in own],
        seeds=[seed_of(seed, [*occasion, prompt.id], number) for prompt, number in own],
        max_new_tokens=how.max_new_tokens,
        temperature=how.temperature,
        batch_size=how.batch_size,
    )
    made = [Sample(*one) for part in devices.gathered(found) for one in part]
    return [Completion(prompt, one) for (prompt, _), one in zip(rows, made, strict=True)]


class Rollouts:
    """The rollout that is being learnt from: a part of a run's state, so that a half-used one is resumed.

    Tensors of N rows: ids (N, T), prompt_tokens and tokens (N,), finished (N,), old (N, T); and whatever a stage adds,
    such as reference (N, T), advantage or reward.
    """

    def __init__(self) -> None:
        self.tensors: dict[str, Tensor] = {}
        self.figures: dict[str, float] = {}  # measured when it was sampled; each step's line repeats them

    def fill(self, tensors: Mapping[str, Tensor], figures: Mapping[str, float]) -> None:
        self.tensors, self.figures = dict(tensors), dict(figures)

    def __len__(self) -> int:
        return len(self.tensors["tokens"]) if self.tensors else 0

    def take(self, rows: Sequence[int], device: torch.device | None = None) -> dict[str, Tensor]:
        """The tensors of these rows, on the device where they are needed: a resumed state is on the host."""
        return {name: tensor.to(device) for name, tensor in rows_of(self.tensors, rows).items()}

    def state_dict(self) -> dict[str, Any]:
        return {**self.tensors, "figures": self.figures}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.figures = state.get("figures", {})
        self.tensors = {name: value for name, value in state.items() if name != "figures"}


def rows_of(tensors: Mapping[str, Tensor], rows: Sequence[int]) -> dict[str, Tensor]:
    """The tensors of these rows, no wider than the longest of them."""
    width = int(tensors["tokens"][rows].max())
    found = {name: tensor[rows] for name, tensor in tensors.items()}
    return {name: tensor[:, :width] if tensor.ndim == 2 else tensor for name, tensor in found.items()}


def passes_of(tensors: Mapping[str, Tensor], tokens: int) -> list[devices.Pass]:
    """This rank's rows in passes of at most `tokens` tokens, those of one prompt beside each other: they share it
    then."""
    rows = tensors["ids"].tolist()
    return devices.deal(tensors["tokens"].tolist(), sorted(range(len(rows)), key=rows.__getitem__), tokens)


def rollout_tensors(completions: Sequence[Completion], pad_id: int, device: torch.device) -> dict[str, Tensor]:
    """The tensors that every rollout has. `old` are the sampler's log-probabilities, 0 off the completion."""
    rows = [[*made.prompt.ids, *made.sample.ids] for made in completions]
    old = [[*[0.0] * len(made.prompt.ids), *made.sample.logprobs] for made in completions]
    found = {
        "ids": pad(rows, pad_id),
        "prompt_tokens": torch.tensor([len(made.prompt.ids) for made in completions]),
        "tokens": torch.tensor([len(row) for row in rows]),
        "finished": torch.tensor([made.sample.finished for made in completions]),
        "old": pad(old, 0.0),
    }
    return {name: tensor.to(device) for name, tensor in found.items()}


def batch_of(tensors: Mapping[str, Tensor]) -> Batch:
    """The model's input. Tokens after an end token are never in it: the sampler stops there."""
    ids = tensors["ids"]
    places = torch.arange(ids.shape[1], device=ids.device)
    mask = places < tensors["tokens"][:, None]
    return Batch(ids, mask, mask & (places >= tensors["prompt_tokens"][:, None]))


def batch_logprobs(model: PreTrainedModel, batch: Batch, temperature: float) -> Tensor:
    """(B, T) log-probabilities in nats of the completions' tokens at this temperature, 0 elsewhere."""
    return F.pad(completion_logprobs(model, batch.ids, batch.mask, batch.completion, temperature), (1, 0))


@torch.no_grad()
def rollout_logprobs(
    model: PreTrainedModel, tensors: Mapping[str, Tensor], temperature: float, tokens: int = MICRO_TOKENS
) -> Tensor:
    """(N, T) log-probabilities of a whole rollout without a graph, in passes of at most `tokens` tokens."""
    ids = tensors["ids"]
    found = torch.zeros(ids.shape, device=ids.device)
    for group, counts in passes_of(tensors, tokens):
        part = batch_of(rows_of(tensors, group))
        found[group, : part.ids.shape[1]] += batch_logprobs(model, part, temperature) * counts
    return devices.summed(found)


def require_agreement(policy: Tensor, old: Tensor, precision: str = "fp32") -> float:
    """Largest difference in nats between (B, T) log-probabilities before the first update. Raises RuntimeError.

    Without any update the two are of the same weights: a difference means that sampler and trainer disagree about
    positions, temperature or the mask, and every ratio would be wrong.
    """
    difference, allowed = (policy - old).abs().max().item(), LARGEST_DIFFERENCE[precision]
    if not difference <= allowed:
        raise RuntimeError(
            f"sampler and trainer differ by {difference:.2g} nats on the same weights; "
            f"at most {allowed:g} is rounding. This is a defect, not a bad job"
        )
    return difference
