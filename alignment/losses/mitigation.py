"""The terms that keep a reward model from rewarding what it should not: each a pure function of scores."""

from __future__ import annotations

from torch import Tensor

from alignment.losses.pairwise import require_pairs


def counterfactual_penalty(original: Tensor, swapped: Tensor, scores: Tensor, *, epsilon: float = 1e-6) -> Tensor:
    """Mean squared change of score under the swap, in units of the score's own variance. A scalar, 0 when invariant.

    Args:
        original, swapped: scores of K texts and of their counterfactuals, shape (K,).
        scores: the batch's ordinary scores, shape (N,). Their variance is part of the graph: else shrinking
            every score would be a way to lower the penalty without becoming fairer.
    """
    require_pairs(original, swapped)
    return (original - swapped).square().mean() / (scores.var(unbiased=False) + epsilon)
