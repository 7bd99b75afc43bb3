"""The losses of policy gradients: one loss a token, shape (B, T), and the weights that make one number of them.

A minibatch is cut into passes that fit the memory. Its weights are taken once, over all of it, so that the sum of
losses times weights does not depend on the cut.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

LOG_RATIO_LIMIT = 20.0  # exp(20) is 5e8: beyond it a ratio says nothing more
KL_LIMIT = 10.0  # nats a token


class Variant(NamedTuple):
    """What a named loss of group-relative policy optimisation is made of."""

    ratio: str  # token | sequence_mean | sequence_sum: see `log_ratio`
    average: str  # sequence_mean | token_mean | constant: see `loss_weights`
    advantage: str  # normalized | centred | leave_one_out: see alignment.sampling.advantage
    clip_low: float
    clip_high: float


VARIANTS = {
    # Shao et al. 2024, arXiv:2402.03300, eq. 3
    "grpo": Variant("token", "sequence_mean", "normalized", 0.2, 0.2),
    # Yu et al. 2025, arXiv:2503.14476, eq. 8: every token counts alike, and rare tokens have more room to rise
    "dapo": Variant("token", "token_mean", "normalized", 0.2, 0.28),
    # Liu et al. 2025, arXiv:2503.20783, section 3.2: without the biases of the length and of the spread
    "dr_grpo": Variant("token", "constant", "centred", 0.2, 0.2),
    # Zheng et al. 2025, arXiv:2507.18071, eq. 5 to 7: one ratio a completion, the geometric mean of its tokens'
    "gspo": Variant("sequence_mean", "sequence_mean", "normalized", 3e-4, 4e-4),
    # Ahmadian et al. 2024, arXiv:2402.14740, eq. 6, clipped where a rollout is learnt from more than once
    "rloo": Variant("sequence_sum", "sequence_mean", "leave_one_out", 0.2, 0.2),
}


def log_ratio(policy: Tensor, old: Tensor, mask: Tensor, level: str = "token") -> Tensor:
    """Logarithm of the probability ratio of the policy and the one that sampled, at most 20 nats either way.

    Args:
        policy, old: log-probabilities of the sampled tokens in nats, shape (B, T).
        mask: true at the tokens that count, shape (B, T); elsewhere the ratio is 1.
        level: "token"; or one ratio a completion: "sequence_sum", that of the whole completion's probabilities, and
            "sequence_mean", its geometric mean a token.

    Returns:
        Shape (B, T), or (B, 1) for one ratio a completion.
    """
    difference = (policy - old).masked_fill(~mask, 0.0)
    if level == "sequence_sum":
        difference = difference.sum(1, keepdim=True)
    elif level == "sequence_mean":
        difference = difference.sum(1, keepdim=True) / mask.sum(1, keepdim=True).clamp(min=1)
    elif level != "token":
        raise ValueError(f"the level of a ratio is token, sequence_mean or sequence_sum, not {level!r}")
    return difference.clamp(-LOG_RATIO_LIMIT, LOG_RATIO_LIMIT)


def clipped_policy(
    log_ratios: Tensor, advantages: Tensor, *, clip_low: float, clip_high: float, dual_clip: float = 0.0
) -> Tensor:
    """Negative clipped surrogate, of the shape that both arguments broadcast to.

    Args:
        log_ratios: of `log_ratio`, shape (B, T) or (B, 1).
        advantages: shape (B, T) or (B, 1). At a ratio of 1 the gradient is that of -advantage x log-probability.
        clip_low, clip_high: a ratio below 1 - clip_low or above 1 + clip_high earns nothing more.
        dual_clip: a bad token costs at most this many times its advantage, 3 is usual; 0: no bound.

    Source: Schulman et al. 2017, arXiv:1707.06347, eq. 7; the bound: Ye et al. 2020, arXiv:1912.09729, eq. 5.
    """
    ratio = log_ratios.exp()
    surrogate = torch.minimum(ratio * advantages, ratio.clamp(1 - clip_low, 1 + clip_high) * advantages)
    if dual_clip:
        surrogate = torch.where(advantages < 0, torch.maximum(surrogate, dual_clip * advantages), surrogate)
    return -surrogate


def is_clipped(log_ratios: Tensor, advantages: Tensor, *, clip_low: float, clip_high: float) -> Tensor:
    """Where the clip takes the gradient away: bool, of the broadcast shape."""
    ratio = log_ratios.exp()
    return ((ratio > 1 + clip_high) & (advantages > 0)) | ((ratio < 1 - clip_low) & (advantages < 0))


def truncated_importance(old: Tensor, sampled: Tensor, mask: Tensor, cap: float) -> Tensor:
    """min(p / q, cap): how much a token counts that q wrote, for an expectation under p. Shape (B, T), 1 off the mask.

    Args:
        old: log-probabilities under the policy whose expectation is meant, in nats, shape (B, T).
        sampled: those under the policy that wrote the tokens, as it said them itself, shape (B, T).
        cap: bounds the variance; a token that q was less likely to write than that counts less than it should.

    Source: Espeholt et al. 2018, arXiv:1802.01561, section 4.1; for two engines that run the same weights, Yao et al.
    2025, "On the rollout-training mismatch in modern RL systems".
    """
    return (old - sampled).masked_fill(~mask, 0.0).clamp(max=LOG_RATIO_LIMIT).exp().clamp(max=cap)


def kl_estimate(policy: Tensor, reference: Tensor, kind: str) -> Tensor:
    """Estimate of KL(policy || reference) from the policy's own samples, in nats a token, shape (B, T).

    Args:
        policy, reference: log-probabilities of the sampled tokens in nats, shape (B, T).
        kind: "k1", the log-ratio: unbiased, of either sign, for the reward. "k2", half its square: biased, with the
            right gradient in a loss. "k3": unbiased and never negative; alone in a loss it has the gradient of the
            other KL, of reference and policy, and times the ratio it has the right one (DeepSeek-AI 2025,
            arXiv:2512.02556).

    Source: Schulman 2020, "Approximating KL divergence" (joschu.net/blog/kl-approx.html). Bounded at 10 nats.
    """
    difference = (policy - reference).clamp(-LOG_RATIO_LIMIT, LOG_RATIO_LIMIT)
    if kind == "k1":
        found = difference
    elif kind == "k2":
        found = difference.square() / 2
    elif kind == "k3":
        found = (-difference).exp() - 1 + difference
    else:
        raise ValueError(f"an estimate of the KL is k1, k2 or k3, not {kind!r}")
    return found.clamp(-KL_LIMIT, KL_LIMIT)


def loss_weights(mask: Tensor, average: str, *, longest: int = 0) -> Tensor:
    """(B, T) weights, 0 off the mask: the loss of a minibatch is the sum of weights times losses.

    Args:
        mask: true at the tokens that count, shape (B, T). A row without any still counts as a completion.
        average: "sequence_mean": the mean over completions of their tokens' mean, where a token of a short one counts
            more; "token_mean": the mean over all tokens; "constant": the sum over tokens divided by B x longest.
        longest: the limit of a completion in tokens, for "constant".
    """
    counted, rows = mask.float(), len(mask)
    if average == "sequence_mean":
        return counted / counted.sum(1, keepdim=True).clamp(min=1) / rows
    if average == "token_mean":
        return counted / counted.sum().clamp(min=1)
    if average == "constant" and longest >= 1:
        return counted / (rows * longest)
    raise ValueError(f"cannot average by {average!r} with a longest completion of {longest} tokens")
