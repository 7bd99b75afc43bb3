"""The temperature on margins whose true one is planted."""

import math

import numpy as np
import pytest

from alignment.measures.calibration import (
    COLDEST,
    HOTTEST,
    calibration_measures,
    cross_scaled,
    temperature_of,
)
from alignment.measures.figures import Resampling, metric


def margins_at(temperature: float, n: int = 4000) -> np.ndarray:
    """Margins `temperature` times too large: the labels follow sigmoid(margin / temperature)."""
    generator = np.random.default_rng(0)
    logits = generator.normal(size=n) * 2
    won = generator.random(n) < 1 / (1 + np.exp(-logits))
    return temperature * np.where(won, logits, -logits)


@pytest.mark.parametrize("planted", [0.3, 1.0, 4.0])
def test_a_planted_temperature_is_found(planted):
    assert temperature_of(margins_at(planted)) == pytest.approx(planted, rel=0.07)


def test_two_kinds_of_margins_by_hand():
    # 3 of 4 are right by m: sigmoid(m / T) = 3/4 where m / T = ln 3
    assert temperature_of(np.array([2.0, 2.0, 2.0, -2.0])) == pytest.approx(2 / math.log(3), rel=1e-4)


def test_margins_without_an_optimum_meet_a_limit():
    assert temperature_of(np.array([1.0, 2.0])) == COLDEST
    assert temperature_of(np.array([1.0, -1.0])) == HOTTEST
    assert math.isnan(temperature_of(np.array([])))


def test_the_temperature_mends_the_calibration():
    margins, groups = margins_at(4.0), [i % 40 for i in range(4000)]
    found = {m.key: metric(m, Resampling(100, 0)) for m in calibration_measures(margins, groups)}
    assert found["calibration_temperature"]["low"] < 4 < found["calibration_temperature"]["high"]
    assert found["calibration_error_scaled"]["value"] < 0.03


def test_each_half_is_scaled_by_the_other():
    margins = np.array([2.0, 2.0, 2.0, -2.0, 1.0, 1.0, 1.0, -1.0])
    scaled = cross_scaled(margins, ["a"] * 4 + ["b"] * 4)
    assert scaled[0] == pytest.approx(2 * math.log(3), rel=1e-4)
    assert scaled[4] == pytest.approx(math.log(3) / 2, rel=1e-4)
    assert cross_scaled(margins, ["a"] * 8).tolist() == margins.tolist()
