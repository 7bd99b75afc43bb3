"""What the losses on pairs share."""

from __future__ import annotations

from typing import TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor

Share = TypeVar("Share", float, Tensor)


def weighted_mean(losses: Tensor, weights: Tensor) -> Tensor:
    """The mean of (B,) losses under (B,) weights, a scalar."""
    return (losses * weights).sum() / weights.sum()


def smoothed(difference: Tensor, share_wrong: float) -> Tensor:
    """Negative log-likelihood of a win at these (B,) differences, with this share of labels taken to be wrong."""
    wins = -F.logsigmoid(difference)
    return wins if share_wrong == 0 else torch.lerp(wins, -F.logsigmoid(-difference), share_wrong)


def corrected(wins: Share, losses: Share, share_wrong: float, *, robust: bool = False) -> tuple[Share, Share]:
    """What the loss of a win and of a defeat count for labels of which a share is wrong.

    Args:
        wins, losses: what was said, as shares of all that was said.
        robust: False mixes the two (cDPO: Mitchell 2023): the most that a label can say is 1 - share_wrong. True
            undoes the noise, so that the expected loss is that of clean labels (Chowdhury et al. 2024,
            arXiv:2403.00409): (1 - e) and -e, over 1 - 2e.
    """
    if robust:
        scale = 1 - 2 * share_wrong
        return (
            ((1 - share_wrong) * wins - share_wrong * losses) / scale,
            ((1 - share_wrong) * losses - share_wrong * wins) / scale,
        )
    return (1 - share_wrong) * wins + share_wrong * losses, (1 - share_wrong) * losses + share_wrong * wins


def require_pairs(first: Tensor, second: Tensor) -> None:
    """Raises ValueError for shapes that differ and for an empty batch."""
    if first.shape != second.shape or first.numel() == 0:
        raise ValueError(f"need equal non-empty shapes, got {tuple(first.shape)} and {tuple(second.shape)}")
