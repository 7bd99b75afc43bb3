"""The losses of a value model: one loss a token, in squared units of the return."""

from __future__ import annotations

import torch
from torch import Tensor


def clipped_value_loss(values: Tensor, old_values: Tensor, returns: Tensor, *, clip: float) -> Tensor:
    """Half the squared error of each value, the worse of it as it is and as it would be after a small move.

    Args:
        values, old_values, returns: any shape, all the same. Old values are those at sampling time.
        clip: how far a value may move from its old one before the gradient ends; 0 leaves the plain squared error.

    Source: the code of Schulman et al. 2017, arXiv:1707.06347 (not in the paper); clip 0.2 in Huang et al. 2024,
    arXiv:2403.17031.
    """
    plain = (values - returns).square()
    if clip == 0:
        return plain / 2
    near = torch.clamp(values, old_values - clip, old_values + clip)
    return torch.maximum(plain, (near - returns).square()) / 2


def clipped_values(values: Tensor, old_values: Tensor, returns: Tensor, *, clip: float) -> Tensor:
    """Bool, true where `clipped_value_loss` passes no gradient on."""
    near = torch.clamp(values, old_values - clip, old_values + clip)
    return ((near - returns).square() > (values - returns).square()) & (clip > 0)
