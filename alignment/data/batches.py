"""Rows to batches: a deterministic order that mixes rows but keeps lengths together, and right padding."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import numpy as np
import torch

MICRO_TOKENS = 16384 if torch.cuda.is_available() else 4096  # of one pass: fills a GPU; spares a CPU memory
BUCKET_BATCHES = 16  # rows are sorted by length only within this many batches


def pad(rows: Sequence[Sequence[float]], value: float) -> torch.Tensor:
    """(B, T) tensor of the rows, filled on the right with `value`."""
    width = max(len(row) for row in rows)
    return torch.tensor([[*row, *[value] * (width - len(row))] for row in rows])


def mask_of(rows: Sequence[Sequence[int]]) -> torch.Tensor:
    """(B, T) bool, true where `pad` kept a real token."""
    return pad([[1] * len(row) for row in rows], 0).bool()


def epoch_batches(lengths: Sequence[int], batch_size: int, seed: int, epoch: int) -> list[list[int]]:
    """Row numbers of every batch of one epoch: a pure function of its arguments.

    Rows are shuffled, sorted by length within large buckets (little padding), and the batches shuffled again, so
    that length does not drift over the epoch.
    """
    draw = np.random.Generator(np.random.PCG64([seed, epoch]))
    order = draw.permutation(len(lengths)).tolist()
    size = batch_size * BUCKET_BATCHES
    buckets = [sorted(order[i : i + size], key=lambda row: lengths[row]) for i in range(0, len(order), size)]
    batches = [bucket[i : i + batch_size] for bucket in buckets for i in range(0, len(bucket), batch_size)]
    return [batches[i] for i in draw.permutation(len(batches))]


def step_count(rows: int, *, batch_size: int, epochs: int, max_steps: int = 0) -> int:
    """Optimizer steps of a whole run; max_steps 0 is no limit."""
    steps = epochs * -(-rows // batch_size)
    return min(steps, max_steps) if max_steps else steps


def batch_at(lengths: Sequence[int], *, batch_size: int, seed: int, step: int) -> list[int]:
    """Row numbers of the batch of a 0-based step, as an unbroken run would see it."""
    per_epoch = -(-len(lengths) // batch_size)
    return _batches_of(tuple(lengths), batch_size, seed, step // per_epoch)[step % per_epoch]


@lru_cache(maxsize=2)
def _batches_of(lengths: tuple[int, ...], batch_size: int, seed: int, epoch: int) -> list[list[int]]:
    return epoch_batches(lengths, batch_size, seed, epoch)


def micro_batches(lengths: Sequence[int], rows: Sequence[int], tokens: int) -> list[list[int]]:
    """The rows of one optimizer step in their order, in groups of at most `tokens` tokens (one row may exceed it)."""
    groups: list[list[int]] = []
    room = 0
    for row in rows:
        if groups and lengths[row] <= room:
            groups[-1].append(row)
        else:
            groups.append([row])
            room = tokens
        room -= lengths[row]
    return groups
