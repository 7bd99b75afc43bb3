"""What the losses on pairs share."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def weighted_mean(losses: Tensor, weights: Tensor) -> Tensor:
    """The mean of (B,) losses under (B,) weights, a scalar."""
    return (losses * weights).sum() / weights.sum()


def smoothed(difference: Tensor, share_wrong: float) -> Tensor:
    """Negative log-likelihood of a win at these (B,) differences, with this share of labels taken to be wrong."""
    wins = -F.logsigmoid(difference)
    return wins if share_wrong == 0 else torch.lerp(wins, -F.logsigmoid(-difference), share_wrong)


def require_pairs(first: Tensor, second: Tensor) -> None:
    """Raises ValueError for shapes that differ and for an empty batch."""
    if first.shape != second.shape or first.numel() == 0:
        raise ValueError(f"need equal non-empty shapes, got {tuple(first.shape)} and {tuple(second.shape)}")
