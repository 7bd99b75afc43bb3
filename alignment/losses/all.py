"""The losses of the reward model and of direct preference optimisation: pure functions of tensors, one loss a pair.

Each returns shape (B,) in nats, so the caller chooses the mean: over one batch, or over all micro-batches of a step.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def bradley_terry(
    chosen: Tensor,
    rejected: Tensor,
    *,
    margins: Tensor | None = None,
    margin: str = "none",
    label_smoothing: float = 0.0,
) -> Tensor:
    """Negative log-likelihood that the chosen completion wins.

    Args:
        chosen, rejected: scores, shape (B,). Only their difference matters; equal scores cost ln 2.
        margins: strength of the preference, shape (B,), 0 (unknown or weakest) to 1.
        margin: "none"; "additive": the difference must exceed the margin (Touvron et al. 2023, arXiv:2307.09288,
            eq. 2); "scaled": the loss counts 1 + margin times (Wang et al. 2024, arXiv:2410.01257, whose factor is
            the strength alone; here an unknown strength still counts once).
        label_smoothing: share of labels taken to be wrong, 0 to below 0.5.

    Raises:
        ValueError: shapes differ, the batch is empty, or a margin is asked for and none is given.

    Source: Bradley & Terry 1952; Ouyang et al. 2022, arXiv:2203.02155, eq. 1.
    """
    _require_pairs(chosen, rejected)
    if margin != "none" and margins is None:
        raise ValueError(f"margin is {margin!r} but no margins were given")
    difference = chosen - rejected - margins if margin == "additive" else chosen - rejected
    losses = _smoothed(difference, label_smoothing)
    return losses * (1 + margins) if margin == "scaled" else losses


def half_win_tie(first: Tensor, second: Tensor) -> Tensor:
    """The cost of a tie as half a win for each side, least where the scores are equal (ln 2).

    It is the Davidson (1970) tie likelihood for a tie parameter that goes to 0, up to a constant; with it a tie says
    only "equal", and the decisive pairs keep the plain Bradley-Terry likelihood.

    Args:
        first, second: scores, shape (B,). Order does not matter.
    """
    _require_pairs(first, second)
    return _smoothed(first - second, 0.5)


def centering(chosen: Tensor, rejected: Tensor) -> Tensor:
    """Squared sum of a pair's two scores, shape (B,): Bradley-Terry leaves the zero free, this fixes it.

    Source: Eisenstein et al. 2023, arXiv:2312.09244, section 2.
    """
    _require_pairs(chosen, rejected)
    return (chosen + rejected).square()


def counterfactual_penalty(original: Tensor, swapped: Tensor, scores: Tensor, *, epsilon: float = 1e-6) -> Tensor:
    """Mean squared change of score under the swap, in units of the score's own variance. A scalar, 0 when invariant.

    Args:
        original, swapped: scores of K texts and of their counterfactuals, shape (K,).
        scores: the batch's ordinary scores, shape (N,). Their variance is part of the graph: else shrinking
            every score would be a way to lower the penalty without becoming fairer.
    """
    _require_pairs(original, swapped)
    return (original - swapped).square().mean() / (scores.var(unbiased=False) + epsilon)


def direct_preference(
    chosen: Tensor,
    rejected: Tensor,
    reference_chosen: Tensor,
    reference_rejected: Tensor,
    *,
    beta: float,
    label_smoothing: float = 0.0,
) -> Tensor:
    """Negative log-likelihood of the preference under the policy's implicit rewards.

    Args:
        chosen, rejected, reference_chosen, reference_rejected: log-probabilities summed over the completion's tokens
            with the EOS, in nats, shape (B,). Policy equal to reference costs ln 2.
        beta: nats of implicit reward a nat of log-ratio; larger stays closer to the reference.
        label_smoothing: the conservative variant (cDPO), not the unbiased one that divides by 1 - 2 epsilon.

    Source: Rafailov et al. 2023, arXiv:2305.18290, eq. 7.
    """
    _require_pairs(chosen, rejected)
    won = implicit_reward(chosen, reference_chosen, beta=beta)
    lost = implicit_reward(rejected, reference_rejected, beta=beta)
    return _smoothed(won - lost, label_smoothing)


def implicit_reward(policy: Tensor, reference: Tensor, *, beta: float) -> Tensor:
    """beta times the log-ratio of policy and reference, shape (B,): exactly 0 before the first step."""
    return beta * (policy - reference)


def weighted_mean(losses: Tensor, weights: Tensor) -> Tensor:
    """The mean of (B,) losses under (B,) weights, a scalar."""
    return (losses * weights).sum() / weights.sum()


def _smoothed(difference: Tensor, share_wrong: float) -> Tensor:
    wins = -F.logsigmoid(difference)
    return wins if share_wrong == 0 else torch.lerp(wins, -F.logsigmoid(-difference), share_wrong)


def _require_pairs(first: Tensor, second: Tensor) -> None:
    if first.shape != second.shape or first.numel() == 0:
        raise ValueError(f"need equal non-empty shapes, got {tuple(first.shape)} and {tuple(second.shape)}")
