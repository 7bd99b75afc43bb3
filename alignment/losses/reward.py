"""The losses of a reward model, in nats: one a pair or text, shape (B,), or one a ranking."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache

import torch
import torch.nn.functional as F
from torch import Tensor

from alignment.losses.pairwise import corrected, require_pairs


def bradley_terry(
    first: Tensor,
    second: Tensor,
    *,
    share: Tensor | None = None,
    margins: Tensor | None = None,
    margin: str = "none",
    label_smoothing: float = 0.0,
    robust: bool = False,
) -> Tensor:
    """Negative log-likelihood that the first completion wins.

    Args:
        first, second: scores, shape (B,). Only their difference matters; equal scores cost ln 2.
        share: share of the votes that are for the first, shape (B,), for soft labels; without it, all are.
        margins: strength of the preference, shape (B,), 0 (unknown or weakest) to 1.
        margin: "none"; "additive": the difference must exceed the margin (Touvron et al. 2023, arXiv:2307.09288,
            eq. 2); "scaled": the loss counts 1 + margin times (Wang et al. 2024, arXiv:2410.01257, whose factor is
            the strength alone; here an unknown strength still counts once).
        label_smoothing: share of labels taken to be wrong, 0 to below 0.5.
        robust: the unbiased correction for them (`corrected`), under which a loss may be negative.

    Raises:
        ValueError: shapes differ, the batch is empty, or a margin is asked for and none is given.

    Source: Bradley & Terry 1952; Ouyang et al. 2022, arXiv:2203.02155, eq. 1.
    """
    difference = _difference(first, second, margins, margin)
    share = torch.ones_like(difference) if share is None else share
    wins, defeats = corrected(share, 1 - share, label_smoothing, robust=robust)
    losses = wins * -F.logsigmoid(difference) + defeats * -F.logsigmoid(-difference)
    return losses * (1 + margins) if margin == "scaled" else losses


def davidson(
    first: Tensor,
    second: Tensor,
    outcomes: Tensor,
    log_nu: Tensor,
    *,
    margins: Tensor | None = None,
    margin: str = "none",
    label_smoothing: float = 0.0,
    robust: bool = False,
) -> Tensor:
    """Negative log-likelihood of wins, defeats and ties under Davidson's model.

    With difference d the three are as exp(d / 2), exp(-d / 2) and nu. Among the decisive outcomes it is Bradley-Terry
    whatever nu is, and nu = 0 is Bradley-Terry without ties.

    Args:
        first, second: scores, shape (B,).
        outcomes: shares of what was said, shape (B, 3): the first wins, the second wins, a tie. Rows sum to 1.
        log_nu: log of the tie parameter, a scalar: between equals a tie has the probability nu / (2 + nu).
        margins, margin, label_smoothing, robust: as for `bradley_terry`. A wrong label is a win for a defeat, or the
            reverse; ties are taken at their word.

    Raises:
        ValueError: shapes differ, the batch is empty, or a margin is asked for and none is given.

    Source: Davidson 1970, "On extending the Bradley-Terry model to accommodate ties in paired comparison experiments".
    """
    half = _difference(first, second, margins, margin) / 2
    wins, defeats = corrected(outcomes[:, 0], outcomes[:, 1], label_smoothing, robust=robust)
    whole = torch.logsumexp(torch.stack([half, -half, log_nu.expand_as(half)]), dim=0)
    losses = wins * (whole - half) + defeats * (whole + half) + outcomes[:, 2] * (whole - log_nu)
    return losses * (1 + margins) if margin == "scaled" else losses


def centering(first: Tensor, second: Tensor) -> Tensor:
    """Squared sum of a pair's two scores, shape (B,): Bradley-Terry leaves the zero free, this fixes it.

    Source: Eisenstein et al. 2023, arXiv:2312.09244, section 2.
    """
    require_pairs(first, second)
    return (first + second).square()


def safety(costs: Tensor, unsafe: Tensor) -> Tensor:
    """Negative log-likelihood of absolute safety labels: a text is unsafe with probability sigmoid(cost), shape (B,).

    Args:
        costs: scores of the cost head, shape (B,). 0 is the boundary: above it unsafe is the likelier.
        unsafe: share of the votes that call the text unsafe, shape (B,), 0 to 1.

    Source: the sign terms of the cost model of Safe RLHF, Dai et al. 2023, arXiv:2310.12773; without its pairwise
    term, which may put two safe texts on both sides of 0.
    """
    require_pairs(costs, unsafe)
    return unsafe * F.softplus(-costs) + (1 - unsafe) * F.softplus(costs)


def plackett_luce(scores: Tensor, tiers: Sequence[Sequence[int]], log_nu: Tensor | None = None) -> Tensor:
    """Negative log-likelihood of one ranking: the best tier is chosen from all, the next from those left. A scalar.

    Args:
        scores: of K completions, shape (K,).
        tiers: places 0 to K - 1, best tier first; those of one tier are tied. Places may be left out.
        log_nu: log of the tie parameter, a scalar. A set S is chosen in proportion to nu^(|S| - 1) times exp of its
            mean score, over all sets of those left: the Davidson-Luce model. Two completions are Davidson's case, and
            without ties and nu = 0 it is Plackett-Luce. None leaves ties out: each of a tier is chosen over those
            below it alone, and nothing is said within the tier.

    Source: Plackett 1975; Luce 1959; with ties Turner et al. 2020, "Modelling rankings in R: the PlackettLuce
    package", doi:10.1007/s00180-020-00959-3, and Firth et al. 2019, arXiv:1909.07123; here with one parameter for ties
    of all sizes in place of one for each.
    """
    loss = scores.new_zeros(())
    for level, tier in enumerate(tiers):
        below = [place for lower in tiers[level + 1 :] for place in lower]
        if log_nu is not None:
            loss = loss + _chosen_set(scores, list(tier), [*tier, *below], log_nu)
        elif below:
            rivals = torch.stack([torch.logsumexp(scores[[place, *below]], dim=0) for place in tier])
            loss = loss + (rivals - scores[list(tier)]).sum()
    return loss


def _chosen_set(scores: Tensor, chosen: list[int], left: list[int], log_nu: Tensor) -> Tensor:
    """Negative log-likelihood that this set is chosen among all sets of those left."""
    members = _subsets(len(left)).to(scores)  # (2^n - 1, n)
    sizes = members.sum(dim=1)
    logits = members @ scores[left] / sizes + (sizes - 1) * log_nu
    own = scores[chosen].mean() + (len(chosen) - 1) * log_nu
    return torch.logsumexp(logits, dim=0) - own


@cache
def _subsets(size: int) -> Tensor:
    """(2^size - 1, size): a row of 0 and 1 for each set that is not empty."""
    return torch.tensor([[number >> place & 1 for place in range(size)] for number in range(1, 2**size)])


def _difference(first: Tensor, second: Tensor, margins: Tensor | None, margin: str) -> Tensor:
    require_pairs(first, second)
    if margin != "none" and margins is None:
        raise ValueError(f"margin is {margin!r} but no margins were given")
    return first - second - margins if margin == "additive" else first - second
