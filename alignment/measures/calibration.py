"""How far sigmoid(margin) can be taken for a probability, and the temperature that mends it."""

from __future__ import annotations

from collections.abc import Hashable, Sequence

import numpy as np
from scipy.optimize import brentq
from scipy.special import expit

from alignment.measures.figures import Measure, Statistic, calibration_error_of

COLDEST, HOTTEST = 1e-3, 1e3  # margins that are all right have no finite optimum, nor have those without a signal


def temperature_of(margins: np.ndarray) -> float:
    """The temperature T under which sigmoid(margin / T) fits best that every first side won; NaN without rows.

    Above 1 the model is too sure of itself. Source: Guo et al. 2017, arXiv:1706.04599, section 4.2.
    """
    if not len(margins):
        return float("nan")

    def slope(log_heat: float) -> float:
        """Derivative of the log-likelihood for 1/T, up to its sign: falls as the temperature does."""
        return float(np.mean(margins * expit(-margins * np.exp(-log_heat))))

    low, high = np.log(COLDEST), np.log(HOTTEST)
    if slope(low) >= 0:
        return COLDEST
    if slope(high) <= 0:
        return HOTTEST
    return float(np.exp(brentq(slope, low, high, xtol=1e-6)))


def calibration_measures(margins: np.ndarray, groups: Sequence[Hashable]) -> list[Measure]:
    """The temperature, and what is left of the calibration error under one that was fitted on other groups."""
    scaled = cross_scaled(margins, groups)
    return [
        Measure("calibration_temperature", "temperature", _temperature(margins), groups, "above 1 is too sure"),
        Measure("calibration_error_scaled", "share", calibration_error_of(scaled), groups,
                "each half of the groups under the other half's temperature"),
    ]  # fmt: skip


def _temperature(margins: np.ndarray) -> Statistic:
    return lambda rows: temperature_of(margins[rows])


def cross_scaled(margins: np.ndarray, groups: Sequence[Hashable]) -> np.ndarray:
    """The margins over the temperature of the half that their group is not in; as they are where there is one group."""
    order = {group: number for number, group in enumerate(dict.fromkeys(groups))}
    half = np.asarray([order[group] % 2 for group in groups], dtype=int)
    scaled = np.array(margins, dtype=float)
    for own in (0, 1):
        other = margins[half != own]
        if len(other):
            scaled[half == own] /= temperature_of(other)
    return scaled
