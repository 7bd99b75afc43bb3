"""Completions of prompts as token ids, in batches, and their log-probabilities under a policy."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from transformers import PreTrainedModel

from alignment.batches import mask_of, micro_batches, pad
from alignment.logprob import completion_logprobs

MICRO_TOKENS = 16384  # padded tokens of one forward pass


class Row(NamedTuple):
    """A prompt and a completion of it, the completion with its end token."""

    prompt: list[int]
    completion: list[int]

    @property
    def tokens(self) -> int:
        return len(self.prompt) + len(self.completion)


class Batch(NamedTuple):
    """N rows, right-padded to width T."""

    ids: Tensor  # (N, T) int64
    mask: Tensor  # (N, T) bool, true on real tokens
    completion_mask: Tensor  # (N, T) bool, true on the completion with its end token


def collate(rows: Sequence[Row], pad_id: int) -> Batch:
    whole = [[*row.prompt, *row.completion] for row in rows]
    completions = [[0] * len(row.prompt) + [1] * len(row.completion) for row in rows]
    return Batch(pad(whole, pad_id), mask_of(whole), pad(completions, 0).bool())


def sequence_logprobs(model: PreTrainedModel, rows: Sequence[Row], pad_id: int) -> Tensor:
    """(N,) log-probabilities in nats of the completions given their prompts, summed over tokens with the end token."""
    ids, mask, completion_mask = (t.to(model.device) for t in collate(rows, pad_id))
    return completion_logprobs(model, ids, mask, completion_mask).sum(dim=1)


@torch.no_grad()
def frozen_logprobs(
    model: PreTrainedModel, rows: Sequence[Row], pad_id: int, tokens: int = MICRO_TOKENS
) -> Tensor:
    """(N,) the same without a graph, in passes of at most `tokens` padded tokens."""
    found = torch.zeros(len(rows), device=model.device)
    for group in micro_batches([row.tokens for row in rows], range(len(rows)), tokens):
        found[group] = sequence_logprobs(model, [rows[i] for i in group], pad_id)
    return found
