"""The losses of preference optimisation: one loss a pair or a completion, shape (B,).

Log-probabilities are of whole completions with their end token, in nats: summed over tokens where a name says nothing
else, divided by the number of tokens where it says `mean`. The implicit reward of a completion is beta times the
log-ratio of policy and reference.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from alignment.losses.pairwise import require_pairs, smoothed


def implicit_reward(policy: Tensor, reference: Tensor, *, beta: float) -> Tensor:
    """beta times the log-ratio of policy and reference, any shape: exactly 0 before the first step."""
    return beta * (policy - reference)


def length_margin(chosen_tokens: Tensor, rejected_tokens: Tensor, *, length_penalty: float) -> Tensor:
    """What to add to the reward margin of R-DPO, shape (B,), in units of reward.

    A judge who likes length explains a part of the preference for a longer completion: that part need not be learnt.
    The reward is then beta times the log-ratio plus length_penalty a token, and a policy that maximises what is left
    writes no longer for length's sake.

    Source: Park et al. 2024, arXiv:2403.19159.
    """
    return length_penalty * (chosen_tokens - rejected_tokens)


def direct_preference(margin: Tensor, *, label_smoothing: float = 0.0) -> Tensor:
    """DPO: negative log-likelihood in nats of the preference under the policy's implicit rewards.

    Args:
        margin: implicit reward of chosen minus rejected, shape (B,). Policy equal to reference is 0 and costs ln 2.
        label_smoothing: share of labels taken to be wrong: the conservative variant (cDPO), whose optimum is a finite
            margin. `robust_preference` is the unbiased one.

    Source: Rafailov et al. 2023, arXiv:2305.18290, eq. 7; cDPO: Mitchell 2023, "A note on DPO with noisy preferences".
    """
    return smoothed(margin, label_smoothing)


def robust_preference(margin: Tensor, *, label_smoothing: float) -> Tensor:
    """rDPO: as DPO in expectation where this share of the labels, below 0.5, was flipped. May be negative.

    Source: Ray Chowdhury et al. 2024, arXiv:2403.00409.
    """
    kept, flipped = -F.logsigmoid(margin), -F.logsigmoid(-margin)
    return ((1 - label_smoothing) * kept - label_smoothing * flipped) / (1 - 2 * label_smoothing)


def hinge_preference(margin: Tensor) -> Tensor:
    """SLiC's hinge on DPO's margin, in units of reward: nothing once the margin is 1, which costs nothing more.

    Source: Zhao et al. 2023, arXiv:2305.10425; on likelihoods over the reference's: Liu et al. 2023, arXiv:2309.06657.
    """
    return torch.relu(1 - margin)


def identity_preference(mean_log_ratio_margin: Tensor, *, beta: float) -> Tensor:
    """IPO: squared distance in nats a token from the margin 1 / (2 beta), at which it stops.

    Args:
        mean_log_ratio_margin: log-ratio a token of chosen minus that of rejected, shape (B,). The authors' results
            are for this mean over tokens, which TRL takes too; OpenRLHF takes the sum, another loss.

    Source: Azar et al. 2023, arXiv:2310.12036, eq. 17, with beta for tau.
    """
    return (mean_log_ratio_margin - 1 / (2 * beta)).square()


def simple_preference(
    chosen_mean: Tensor, rejected_mean: Tensor, *, beta: float, target_margin: float, label_smoothing: float = 0.0
) -> Tensor:
    """SimPO: DPO on log-probabilities a token without a reference, in nats; the margin must exceed target_margin.

    Source: Meng et al. 2024, arXiv:2405.14734, eq. 6.
    """
    require_pairs(chosen_mean, rejected_mean)
    return smoothed(beta * (chosen_mean - rejected_mean) - target_margin, label_smoothing)


def odds_ratio(chosen_mean: Tensor, rejected_mean: Tensor) -> Tensor:
    """ORPO's term in nats: how far the odds of chosen are from exceeding those of rejected. Needs no reference.

    The whole loss is the negative log-likelihood a token of chosen, plus beta (lambda in the paper) times this.

    Source: Hong et al. 2024, arXiv:2403.07691, eq. 7.
    """
    require_pairs(chosen_mean, rejected_mean)
    return -F.logsigmoid(log_odds(chosen_mean) - log_odds(rejected_mean))


def log_odds(logprob: Tensor) -> Tensor:
    """log p / (1 - p) for log p below 0, without the cancellation near either end.

    Source: Mächler 2012, "Accurately Computing log(1 - exp(-|a|))".
    """
    logprob = logprob.clamp(max=-torch.finfo(logprob.dtype).eps)
    near_one, near_zero = logprob.clamp(min=-math.log(2)), logprob.clamp(max=-math.log(2))
    rest = torch.where(logprob > -math.log(2), (-torch.expm1(near_one)).log(), torch.log1p(-near_zero.exp()))
    return logprob - rest


def kahneman_tversky(log_ratio: Tensor, desirable: Tensor, baseline: Tensor, *, beta: float) -> Tensor:
    """KTO: what a completion is worth beside the baseline, as a loss from 0 to 1. Needs no pairs.

    Args:
        log_ratio: of completions, shape (B,), in nats.
        desirable: bool, shape (B,).
        baseline: `reference_point` of the step, a scalar that no gradient passes.

    Source: Ethayarajh et al. 2024, arXiv:2402.01306, eq. 7; the weights of the two sides are the rows' own.
    """
    gain = torch.where(desirable, log_ratio - baseline, baseline - log_ratio)
    return 1 - torch.sigmoid(beta * gain)


def reference_point(mismatched_log_ratio: Tensor) -> Tensor:
    """KTO's baseline, a scalar of at least 0 without gradient: a cheap estimate of the KL to the reference in nats.

    Args:
        mismatched_log_ratio: of completions after prompts that are not theirs, shape (B,).

    Source: Ethayarajh et al. 2024, arXiv:2402.01306, section 4.1.
    """
    return mismatched_log_ratio.mean().clamp(min=0).detach()
