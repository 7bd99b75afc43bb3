"""A comparison of two versions by people that may be looked at after every judgment, and how many it needs.

x is 1 where the candidate won, 0 where the champion did, a half for a tie; one x a prompt. For a mean m under test, the
sum of w (1 + L (x1 - m)) (1 + L (x2 - m)) ... over a few fixed bets L of both signs is a test martingale E: by Ville's
inequality it ever reaches 1 / alpha with probability alpha at most. So the means with E below 1 / alpha are a
confidence sequence, right at all times together. With fixed bets E depends on the counts alone, whatever their order.

Source: Waudby-Smith & Ramdas 2024, "Estimating means of bounded random variables by betting", JRSS-B 86(1), section 4;
the mixture over bets is Robbins's 1970.
"""

import math
from functools import lru_cache
from statistics import NormalDist
from typing import NamedTuple

import numpy as np

BETS = ((1.0, 0.8), (2.0, 0.2))  # multiples of the best bet for the difference that is looked for, and their weights
LARGEST = 0.99  # a bet of 1 would be lost for good by one judgment
GRID = 2001  # means that are tried for the confidence sequence
RUNS, FINEST = 2000, 0.1  # of the simulation that finds how much more looking all the time needs


class Counts(NamedTuple):
    """How the judged comparisons went, for the candidate."""

    wins: int
    losses: int
    ties: int

    @property
    def n(self) -> int:
        return sum(self)

    @property
    def rate(self) -> float | None:
        """Ties count as a half."""
        return (self.wins + self.ties / 2) / self.n if self.n else None


def bets_for(difference: float) -> tuple[np.ndarray, np.ndarray]:
    """(bets, weights), of both signs. The best bet for a true difference d is d over the variance, 4 d."""
    sizes = np.minimum(LARGEST, [4 * difference * multiple for multiple, _ in BETS])
    weights = np.asarray([weight for _, weight in BETS]) / 2
    return np.concatenate([sizes, -sizes]), np.concatenate([weights, weights])


def log_evidence(counts: Counts, mean: float | np.ndarray, difference: float) -> np.ndarray:
    """Natural logarithm of E against each mean; 0 before any judgment."""
    bets, weights = bets_for(difference)
    means = np.atleast_1d(mean)[:, None]
    parts = (
        counts.wins * np.log1p(bets * (1 - means))
        + counts.losses * np.log1p(bets * (0 - means))
        + counts.ties * np.log1p(bets * (0.5 - means))
    )
    highest = parts.max(1, keepdims=True)
    return (highest + np.log((weights * np.exp(parts - highest)).sum(1, keepdims=True)))[:, 0]


def confidence_sequence(counts: Counts, *, alpha: float, difference: float) -> tuple[float, float]:
    """The win rates that the judgments do not exclude: at all times together they hold the truth but for alpha."""
    grid = np.linspace(0, 1, GRID)
    kept = grid[log_evidence(counts, grid, difference) < math.log(1 / alpha)]
    return (float(kept.min()), float(kept.max())) if len(kept) else (counts.rate, counts.rate)


def is_decided(counts: Counts, *, alpha: float, difference: float) -> str:
    """"candidate" or "champion" is better, they are "even" within the difference, or "" for not yet."""
    low, high = confidence_sequence(counts, alpha=alpha, difference=difference)
    if low > 0.5 or high < 0.5:
        return "candidate" if low > 0.5 else "champion"
    return "even" if low > 0.5 - difference and high < 0.5 + difference else ""


def needed(*, difference: float, alpha: float, power: float, ties: float = 0.0) -> int:
    """Comparisons, one a prompt, for a test that is looked at once: (z of alpha / 2 + z of power)^2 variance / d^2.

    The variance of x is (1 - ties) / 4; with one comparison a prompt nothing is clustered. Two-sided.
    """
    normal = NormalDist()
    z = normal.inv_cdf(1 - alpha / 2) + normal.inv_cdf(power)
    return math.ceil(z * z * (1 - ties) / 4 / difference**2)


class Looks(NamedTuple):
    """What looking after every judgment costs and saves, as multiples of `needed`."""

    most: float  # so many find the difference with the power that was asked for
    usual: float  # half of those that find it have ended by then


@lru_cache(maxsize=64)
def looks(alpha: float, power: float) -> Looks:
    """Simulated at a coarse difference: in multiples of `needed` it hardly depends on the difference."""
    n = needed(difference=FINEST, alpha=alpha, power=power)
    ends = np.sort(stopping_times(0.5 + FINEST, runs=RUNS, most=3 * n, alpha=alpha, difference=FINEST, seed=0))
    most = ends[math.ceil(power * RUNS) - 1]
    return Looks(float(most / n), float(np.median(ends[ends <= most]) / n))


def stopping_times(
    rate: float, *, runs: int, most: int, alpha: float, difference: float, seed: int, ties: float = 0.0
) -> np.ndarray:
    """(runs,) the judgment at which each simulated comparison excludes one half, looked at every time; inf for never.

    Args:
        rate: the true win rate, ties as a half. most: judgments at which a run ends.
    """
    drawn = np.random.default_rng(seed).random((runs, most), dtype=np.float32)
    win = rate - ties / 2
    x = np.where(drawn < win, 1.0, np.where(drawn < win + ties, 0.5, 0.0)).astype(np.float32)
    bets, weights = bets_for(difference)
    evidence = np.zeros((runs, most), dtype=np.float32)
    for bet, weight in zip(bets.tolist(), weights.tolist(), strict=True):
        evidence += weight * np.exp(np.minimum(np.cumsum(np.log1p(bet * (x - 0.5)), axis=1), 50))
    reached = evidence >= 1 / alpha
    return np.where(reached.any(1), reached.argmax(1) + 1.0, np.inf)
