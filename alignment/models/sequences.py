"""Completions of prompts as token ids, in batches, and their log-probabilities under a policy."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from transformers import PreTrainedModel

from alignment import devices
from alignment.data.batches import MICRO_TOKENS, mask_of, pad
from alignment.models.logprob import completion_logprobs
from alignment.models.precision import autocast


class Row(NamedTuple):
    """A prompt and a completion of it, the completion with its end token."""

    prompt: list[int]
    completion: list[int]

    @property
    def tokens(self) -> int:
        return len(self.prompt) + len(self.completion)


class Passes(NamedTuple):
    """How rows go through a model."""

    pad_id: int
    tokens: int = MICRO_TOKENS  # tokens of one forward pass: changes nothing but memory
    precision: str = "fp32"  # of matrix products


class Batch(NamedTuple):
    """N rows, right-padded to width T."""

    ids: Tensor  # (N, T) int64
    mask: Tensor  # (N, T) bool, true on real tokens
    completion: Tensor  # (N, T) bool, true on the completion with its end token: what is learnt


def collate(rows: Sequence[Row], pad_id: int) -> Batch:
    whole = [[*row.prompt, *row.completion] for row in rows]
    completions = [[0] * len(row.prompt) + [1] * len(row.completion) for row in rows]
    return Batch(pad(whole, pad_id), mask_of(whole), pad(completions, 0).bool())


def sequence_logprobs(model: PreTrainedModel, rows: Sequence[Row], passes: Passes) -> Tensor:
    """(N,) log-probabilities in nats of the completions given their prompts, summed over tokens with the end token.

    All rows in one pass.
    """
    ids, mask, completion = (t.to(model.device) for t in collate(rows, passes.pad_id))
    with autocast(passes.precision):
        return completion_logprobs(model, ids, mask, completion).sum(dim=1)


@torch.no_grad()
def frozen_logprobs(model: PreTrainedModel, rows: Sequence[Row], passes: Passes) -> Tensor:
    """(N,) the same without a graph, in as many passes as it takes."""
    found = torch.zeros(len(rows), device=model.device)
    for group, counts in devices.deal([row.tokens for row in rows], range(len(rows)), passes.tokens):
        found[group] += sequence_logprobs(model, [rows[i] for i in group], passes) * counts
    return devices.summed(found)
