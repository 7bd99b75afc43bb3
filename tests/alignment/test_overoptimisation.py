"""The curve of gold against distance: known curves are found again, and best-of-n equals its own definition."""

import itertools
import math

import numpy as np
import pytest

from alignment.measures.figures import Resampling, metric
from alignment.measures.overoptimisation import (
    Curve,
    best_of_n_kl,
    best_of_n_mean,
    curve_measures,
    fit,
    shape,
)

DISTANCES = np.asarray([0.0, 0.4, 0.8, 1.3, 2.0, 3.0])


@pytest.mark.parametrize("form", ["best_of_n", "learning"])
def test_a_known_curve_is_found_again_with_its_peak(form):
    found = fit(DISTANCES, shape(DISTANCES, form) @ [1.5, 0.6], form)
    assert found == pytest.approx((1.5, 0.6, 1.0))
    grid = np.linspace(0.01, 12, 20_000)
    highest = grid[(shape(grid, form) @ [1.5, 0.6]).argmax()]
    assert found.peak(form) == pytest.approx(highest**2, rel=1e-2)


def test_the_two_forms_against_hand_computed_values():
    assert shape(np.asarray([2.0]), "best_of_n").tolist() == [[2.0, -4.0]]
    assert shape(np.asarray([0.0, math.e]), "learning").tolist() == [[0.0, 0.0], [math.e, -math.e]]
    assert fit(DISTANCES, shape(DISTANCES, "best_of_n") @ [1.0, 0.5], "best_of_n").peak("best_of_n") == pytest.approx(1)
    assert fit(DISTANCES, shape(DISTANCES, "learning") @ [1.0, 0.5], "learning").peak("learning") == pytest.approx(
        math.e**2
    )


def test_gold_that_only_rises_has_no_peak_and_two_points_no_curve():
    assert math.isnan(fit(DISTANCES, DISTANCES + 0.1 * DISTANCES**2, "best_of_n").peak("best_of_n"))
    assert all(map(math.isnan, fit(DISTANCES[:3], DISTANCES[:3], "best_of_n")))


def test_points_that_no_curve_fits_explain_little():
    gold = np.asarray([0.0, 1.0, -1.0, 1.0, -1.0, 1.0])
    assert fit(DISTANCES, gold, "best_of_n").r2 < 0.3


def test_the_intervals_hold_the_planted_curve_and_resample_prompts():
    draw = np.random.default_rng(0)
    kl = np.repeat((DISTANCES**2)[:, None], 60, axis=1)
    truth = (shape(DISTANCES, "learning") @ [1.5, 0.6])[:, None]
    prompts = draw.normal(size=60)  # a prompt that is hard is hard at every point
    curve = Curve(kl, truth + 0.5 * prompts + 0.2 * draw.normal(size=kl.shape), kl, list("abcdef"))
    entries = [metric(m, Resampling(300)) for m in curve_measures(curve, list(range(60)), "learning")]
    alpha, beta, r2, peak = entries
    assert [entry["key"].rpartition("_")[2] for entry in entries] == ["alpha", "beta", "r2", "peak"]
    assert alpha["low"] < 1.5 < alpha["high"] and beta["low"] < 0.6 < beta["high"]
    assert peak["low"] < math.exp(2 * (1.5 / 0.6 - 1)) < peak["high"] and r2["value"] > 0.8
    assert (alpha["n"], alpha["clusters"]) == (60, 60)


def test_a_point_that_was_not_judged_on_every_prompt_counts_by_those_it_was():
    kl = np.repeat((DISTANCES**2)[:, None], 4, axis=1)
    gold = np.repeat((shape(DISTANCES, "best_of_n") @ [1.0, 0.2])[:, None], 4, axis=1)
    gold[2, :3] = math.nan
    (alpha, *_) = curve_measures(Curve(kl, gold, gold, list("abcdef")), list("wxyz"), "best_of_n")
    assert alpha.statistic(np.arange(4)) == pytest.approx(1.0)


def test_the_best_of_n_is_the_mean_over_every_choice_of_n():
    draw = np.random.default_rng(1)
    proxy, gold = draw.normal(size=7), draw.normal(size=7)
    for n in range(1, 8):
        by_choice = [gold[max(chosen, key=lambda i: proxy[i])] for chosen in itertools.combinations(range(7), n)]
        assert best_of_n_mean(proxy, gold, n) == pytest.approx(np.mean(by_choice))
    with pytest.raises(ValueError, match="the best of 8 needs as many samples, got 7"):
        best_of_n_mean(proxy, gold, 8)


def test_samples_that_the_proxy_holds_equal_count_alike():
    assert best_of_n_mean(np.zeros(3), np.asarray([1.0, 2.0, 6.0]), 2) == pytest.approx(3)


def test_the_distance_of_best_of_n_by_hand():
    assert best_of_n_kl(1) == 0
    assert best_of_n_kl(4) == pytest.approx(math.log(4) - 0.75)
