"""Two versions on the same items: the difference with its interval, and tests of it, by drawing whole clusters.

Nothing here knows of tables. The interval is that of alignment/measures/statistics.py, and the tests are its inverse.
"""

import math
from collections.abc import Hashable, Sequence
from typing import NamedTuple

import numpy as np
from scipy.special import ndtr, ndtri, stdtr, stdtrit

RESAMPLES = 4000
CHUNK = 500  # draws at a time


class Comparison(NamedTuple):
    """How much better the candidate is, with its interval; the p-values are one-sided.

    no_worse: of the hypothesis that it is worse by the margin or more. worse: of the hypothesis that it is not.
    """

    difference: float
    low: float
    high: float
    n: int
    clusters: int
    no_worse: float
    worse: float


def compare(
    gains: Sequence[float], clusters: Sequence[Hashable], *, margin: float, level: float = 0.95, seed: int = 0
) -> Comparison:
    """Paired bootstrap of a mean gain by clusters. Raises ValueError for fewer than two clusters.

    Args:
        gains: candidate less champion on one item, or the reverse where lower is better; shape (n,).
        clusters: the group of each item, length n.
        margin: the loss that is allowed, 0 or more, in the unit of the gains.

    Source: Efron & Tibshirani 1993, chapters 13 and 15, the interval expanded as in Hesterberg 2015; a one-sided p is
    the level at which the interval's end reaches the margin.
    """
    sums, sizes = cluster_sums(gains, clusters)
    if len(sums) < 2:
        raise ValueError(f"a paired comparison needs two clusters, got {len(sums)}")
    draws, tail = draw_means(sums, sizes, seed), expanded_tail(len(sums), level)
    low, high = np.quantile(draws, [tail, 1 - tail])
    return Comparison(
        difference=float(sums.sum() / sizes.sum()),
        low=float(low),
        high=float(high),
        n=len(gains),
        clusters=len(sums),
        no_worse=shrunk_p(float((draws <= -margin).sum()), len(sums)),
        worse=shrunk_p(float((draws >= -margin).sum()), len(sums)),
    )


def cluster_sums(values: Sequence[float], clusters: Sequence[Hashable]) -> tuple[np.ndarray, np.ndarray]:
    """(sum of the values, number of them) of each cluster."""
    _, place = np.unique(np.asarray([str(cluster) for cluster in clusters]), return_inverse=True)
    return np.bincount(place, weights=np.asarray(values, dtype=float)), np.bincount(place)


def draw_means(sums: np.ndarray, sizes: np.ndarray, seed: int) -> np.ndarray:
    """(RESAMPLES,) means over as many clusters as there are, drawn with replacement."""
    generator, found = np.random.default_rng(seed), []
    for _ in range(RESAMPLES // CHUNK):
        drawn = generator.integers(len(sums), size=(CHUNK, len(sums)))
        found.append(sums[drawn].sum(1) / sizes[drawn].sum(1))
    return np.concatenate(found)


def expanded_tail(clusters: int, level: float) -> float:
    """The share to cut off each side, so that a normal sampling distribution gives Student's t interval."""
    width = stdtrit(clusters - 1, (1 + level) / 2) * math.sqrt(clusters / (clusters - 1))
    return float(ndtr(-width))


def shrunk_p(beyond: float, clusters: int) -> float:
    """One-sided p from the number of draws on the wrong side: the inverse of `expanded_tail`, never 0."""
    share = min(1.0, (beyond + 1) / (RESAMPLES + 1))
    return float(stdtr(clusters - 1, ndtri(share) * math.sqrt((clusters - 1) / clusters)))


def holm(p_values: Sequence[float]) -> list[float]:
    """The p-values adjusted: rejecting those up to alpha errs anywhere in the family with probability alpha at most.

    Source: Holm 1979, Scandinavian Journal of Statistics 6.
    """
    order, adjusted, highest = sorted(range(len(p_values)), key=p_values.__getitem__), [0.0] * len(p_values), 0.0
    for rank, place in enumerate(order):
        highest = max(highest, min(1.0, (len(p_values) - rank) * p_values[place]))
        adjusted[place] = highest
    return adjusted
