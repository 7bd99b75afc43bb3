"""The losses of preference optimisation: one loss a pair, shape (B,), in nats."""

from __future__ import annotations

from torch import Tensor

from alignment.losses.pairwise import require_pairs, smoothed


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
    require_pairs(chosen, rejected)
    won = implicit_reward(chosen, reference_chosen, beta=beta)
    lost = implicit_reward(rejected, reference_rejected, beta=beta)
    return smoothed(won - lost, label_smoothing)


def implicit_reward(policy: Tensor, reference: Tensor, *, beta: float) -> Tensor:
    """beta times the log-ratio of policy and reference, shape (B,): exactly 0 before the first step."""
    return beta * (policy - reference)
