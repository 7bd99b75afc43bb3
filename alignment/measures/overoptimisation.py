"""How far a reward model can be trusted: a gold judge's score against the distance that optimisation has gone.

The distance is d = sqrt(KL(policy || parent)), with the KL in nats. Optimising a proxy, the gold score first rises and
then falls; where it peaks is how far it pays to go.

Source: Gao et al. 2022, arXiv:2210.10760, eq. 1 (best-of-n) and section 3.1 (reinforcement learning).
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Sequence
from typing import NamedTuple

import numpy as np

from alignment.measures.figures import Measure
from alignment.measures.statistics import determination

FORMS = ("best_of_n", "learning")  # d (alpha - beta d) and d (alpha - beta log d)
FEWEST_POINTS = 3  # two numbers are fitted


class Curve(NamedTuple):
    """K points of optimisation on the same P prompts; NaN where a point was not judged on a prompt."""

    kl: np.ndarray  # (K, P) nats; the mean over prompts is the point's KL
    gold: np.ndarray  # (K, P) gold score minus the parent's
    proxy: np.ndarray  # (K, P) the same by what was optimised; NaN where nobody knows
    names: list[str]  # of the points


class Fit(NamedTuple):
    alpha: float  # gold gained a root nat at the beginning
    beta: float  # how fast that is lost; 0 or less: no over-optimisation within the data
    r2: float  # share of the points' variance that the curve explains

    def peak(self, form: str) -> float:
        """The KL in nats at which gold is highest; NaN where the curve has no peak."""
        if not (self.beta > 0 and self.alpha > 0):
            return math.nan
        if form == "best_of_n":
            return (self.alpha / (2 * self.beta)) ** 2
        exponent = 2 * (self.alpha / self.beta - 1)
        return math.exp(exponent) if exponent < 50 else math.nan  # too flat to say where it turns


def shape(distance: np.ndarray, form: str) -> np.ndarray:
    """(K, 2) columns that alpha and beta multiply. A distance of 0 gains nothing."""
    if form == "best_of_n":
        return np.stack([distance, -(distance**2)], axis=1)
    if form == "learning":
        return np.stack([distance, -distance * np.log(np.where(distance > 0, distance, 1.0))], axis=1)
    raise ValueError(f"the form of a curve is {' or '.join(FORMS)}, not {form!r}")


def fit(distance: np.ndarray, gold: np.ndarray, form: str) -> Fit:
    """The curve of least squares through the origin, of K distances and gold gains; NaN for fewer than three."""
    moved = np.isfinite(gold) & (distance > 0)
    if len(np.unique(distance[moved])) < FEWEST_POINTS:
        return Fit(math.nan, math.nan, math.nan)
    columns = shape(distance[moved], form)
    (alpha, beta), *_ = np.linalg.lstsq(columns, gold[moved], rcond=None)
    return Fit(float(alpha), float(beta), determination(columns @ [alpha, beta], gold[moved]))


def points(curve: Curve, prompts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(distances, gold gains), both (K,), of these prompts, with repeats. A KL estimated below 0 is a distance of 0."""
    kl, gold = mean_of_rows(curve.kl[:, prompts]), mean_of_rows(curve.gold[:, prompts])
    return np.sqrt(np.clip(np.nan_to_num(kl), 0, None)), gold


def mean_of_rows(values: np.ndarray) -> np.ndarray:
    """(K,) means of (K, P) over what is a number; NaN where nothing is."""
    known = np.isfinite(values)
    counts = known.sum(1)
    return np.where(counts > 0, np.where(known, values, 0.0).sum(1) / np.maximum(counts, 1), math.nan)


def curve_measures(curve: Curve, groups: Sequence[Hashable], form: str) -> list[Measure]:
    """The fitted numbers, with intervals that resample prompts and fit again.

    Args:
        groups: the prompt of each of the P columns.
    """

    def fitted(prompts: np.ndarray) -> Fit:
        return fit(*points(curve, prompts), form)

    note = f"{len(curve.names)} points; " + ("d (alpha - beta d)" if form == "best_of_n" else "d (alpha - beta log d)")
    named = [
        ("alpha", "sd a root nat", lambda rows: fitted(rows).alpha),
        ("beta", "sd", lambda rows: fitted(rows).beta),
        ("r2", "share", lambda rows: fitted(rows).r2),
        ("peak", "nats", lambda rows: fitted(rows).peak(form)),
    ]
    return [Measure(f"overoptimisation_{form}_{key}", unit, of, groups, note) for key, unit, of in named]


def best_of_n_kl(n: int) -> float:
    """KL in nats of best-of-n from the policy it samples: log n - (n - 1) / n, an upper bound reached without ties.

    Source: Stiennon et al. 2020, arXiv:2009.01325, appendix G.3; a bound by Beirami et al. 2024, arXiv:2401.01879.
    """
    return math.log(n) - (n - 1) / n


def best_of_n_mean(proxy: np.ndarray, gold: np.ndarray, n: int) -> float:
    """Expected gold score of the best by proxy of n draws, from N at least n of them, without bias.

    Every choice of n of the N samples counts alike: the i-th lowest by proxy is the best of C(i - 1, n - 1) of them.
    Samples that the proxy holds equal share their weights.

    Source: Nakano et al. 2021, arXiv:2112.09332, appendix I.
    """
    count = len(proxy)
    if not 1 <= n <= count:
        raise ValueError(f"the best of {n} needs as many samples, got {count}")
    weights = np.asarray([math.comb(i, n - 1) for i in range(count)], dtype=float) / math.comb(count, n)
    _, level = np.unique(proxy, return_inverse=True)
    order = np.argsort(proxy, kind="stable")
    shared = np.bincount(level[order], weights=weights) / np.bincount(level)
    return float(shared[level] @ gold)
