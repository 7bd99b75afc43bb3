"""The terms that keep a reward model from rewarding what it should not: each a pure function of scores."""

from __future__ import annotations

import torch
import torch.nn.functional as F
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


def length_penalty(differences: Tensor, length_differences: Tensor, *, epsilon: float = 1e-12) -> Tensor:
    """Squared correlation of score and length over the pairs of a batch, 0 to 1. A scalar.

    Each pair counts in both orders, so the centres are 0 and the side that was written first means nothing.

    Args:
        differences: score of chosen minus rejected, shape (B,).
        length_differences: the same of the logarithm of their lengths, shape (B,).

    Source: as ODIN's term (Chen et al. 2024, arXiv:2402.07319), but over pairs, so that a taste for length may not
    hide behind prompts with long answers; and squared, which is smooth where it is to end, at 0.
    """
    require_pairs(differences, length_differences)
    squares = differences.square().sum() * length_differences.square().sum()
    return (differences @ length_differences).square() / (squares + epsilon)


def length_split(quality: Tensor, length_scores: Tensor, lengths: Tensor) -> Tensor:
    """|corr(quality, length)| - corr(length score, length), -1 (all length is in its own head) to 2. A scalar.

    Args:
        quality, length_scores: the two heads' scores of N answers, shape (N,). Their sum is what the judgments
            explain; only the quality is used afterwards.
        lengths: of the answers, shape (N,), in whatever unit length is to be told apart.

    Source: ODIN, Chen et al. 2024, arXiv:2402.07319, the length loss.
    """
    require_pairs(quality, length_scores)
    return correlation(quality, lengths).abs() - correlation(length_scores, lengths)


def head_overlap(first: Tensor, second: Tensor) -> Tensor:
    """|cosine| of the weights of two heads, shape (H,) each: 0 where they read different directions. A scalar.

    Source: ODIN, arXiv:2402.07319, the orthogonality loss; here free of the heads' size, which could shrink instead.
    """
    return F.cosine_similarity(first, second, dim=0).abs()


def correlation(x: Tensor, y: Tensor, *, epsilon: float = 1e-12) -> Tensor:
    """Pearson's correlation of two (N,) tensors, a scalar; 0 where one side is constant."""
    x, y = x - x.mean(), y - y.mean()
    return (x @ y) / (x.square().sum() * y.square().sum() + epsilon).sqrt()


def noisy_bradley_terry(differences: Tensor, accuracies: Tensor) -> Tensor:
    """Negative log-likelihood of votes by people who are sometimes wrong, in nats, shape (V,).

    P(vote) = a sigmoid(d) + (1 - a) sigmoid(-d) = rho sigmoid(d) + (1 - rho) / 2 with rho = 2a - 1: with that share
    the voter looked, and else threw a coin. A vote that the scores contradict then pulls the less, the surer they are.

    Args:
        differences: score of the completion voted for minus the other's, shape (V,).
        accuracies: a, the probability that the voter's vote is the right one, shape (V,), 0.5 to 1.

    Source: Chen et al. 2013, "Pairwise ranking aggregation in a crowdsourced setting" (WSDM), with the scores of a
    model in the place of the items' strengths.
    """
    require_pairs(differences, accuracies)
    right = accuracies.log() + F.logsigmoid(differences)
    wrong = (1 - accuracies).log() + F.logsigmoid(-differences)
    return -torch.logaddexp(right, wrong)


def group_means(losses: Tensor, groups: Tensor, rows: Tensor, count: int) -> Tensor:
    """Mean loss of each of `count` groups, shape (count,); NaN for a group that has no row here.

    Args:
        losses: shape (B,).
        groups: the number of each row's group, shape (B,) int64.
        rows: how much each row counts within its group, shape (B,).
    """
    empty = losses.new_zeros(count)
    return empty.index_add(0, groups, losses * rows) / empty.index_add(0, groups, rows)


def group_row_weights(group_weights: Tensor, groups: Tensor, rows: Tensor) -> Tensor:
    """Weights (B,) under which the sum of losses is each group's mean times its weight. Rows: as above."""
    return group_weights[groups] * rows / torch.zeros_like(group_weights).index_add(0, groups, rows)[groups]


def raised_group_weights(
    weights: Tensor, losses: Tensor, sizes: Tensor, *, rate: float, adjustment: float = 0.0, floor: float = 0.1
) -> Tensor:
    """The groups' weights after one step of exponentiated gradient ascent: the worse a group fares, the heavier.

    q_g <- q_g exp(rate (L_g + adjustment / sqrt(n_g))), normalised, and mixed with a share `floor` of equal weights.

    Args:
        weights: q, shape (G,), sum 1.
        losses: L, the groups' mean losses in nats, shape (G,).
        sizes: n, the groups' training rows, shape (G,). Small groups generalise worse: the adjustment, 0 or more,
            stands for that gap (Sagawa et al. 2020, arXiv:1911.08731, section 3.3).
        floor: 0 to 1; no weight falls below floor / G.

    Source: Ramesh et al. 2024, arXiv:2405.20304, algorithm 1; the mixture as in Herbster & Warmuth 1998 ("Tracking
    the best expert"): a group that has been easy can come back.
    """
    raised = (weights.log() + rate * (losses + adjustment / sizes.sqrt())).softmax(0)
    return (1 - floor) * raised + floor / len(weights)
