"""Intervals that keep their promise, and say when they cannot."""

import math

import numpy as np
import pytest

from alignment.measures.statistics import (
    cluster_bootstrap,
    cluster_mean,
    correlation,
    length_controlled_share,
    logistic_fit,
    paired_t,
    wilson,
)


def test_wilson_against_the_textbook():
    # 8 of 10: Wilson 1927 gives 0.4902 to 0.9433
    low, high = wilson(8, 10)
    assert low == pytest.approx(0.4902, abs=1e-4)
    assert high == pytest.approx(0.9433, abs=1e-4)
    assert wilson(0, 0) == (0.0, 1.0)


def test_the_same_seed_gives_the_same_interval():
    values, clusters = np.random.default_rng(0).normal(size=60), [i % 12 for i in range(60)]
    assert cluster_mean(values, clusters, seed=3) == cluster_mean(values, clusters, seed=3)
    assert cluster_mean(values, clusters, seed=3) != cluster_mean(values, clusters, seed=4)


def test_rows_copied_within_their_group_do_not_narrow_the_interval():
    generator = np.random.default_rng(1)
    values = generator.normal(size=40)
    once = cluster_mean(values, list(range(40)), seed=0)
    copied = cluster_mean(np.repeat(values, 25), np.repeat(np.arange(40), 25).tolist(), seed=0)
    assert copied.high - copied.low == pytest.approx(once.high - once.low)
    assert (copied.n, copied.clusters) == (1000, 40)


def test_ninety_five_of_a_hundred_intervals_hold_the_truth():
    generator, held = np.random.default_rng(2), 0
    for seed in range(200):
        group_effects = generator.normal(size=30)
        values = (group_effects[:, None] + generator.normal(size=(30, 5))).ravel()
        found = cluster_mean(values, np.repeat(np.arange(30), 5).tolist(), seed=seed, resamples=200)
        held += found.low <= 0 <= found.high
    assert 0.88 <= held / 200 <= 0.99


def test_with_five_groups_the_interval_still_holds_the_truth():
    generator = np.random.default_rng(3)
    held = 0
    for trial in range(200):
        effects = np.repeat(generator.normal(size=5), 20)
        values = effects + generator.normal(size=100)
        found = cluster_mean(values, np.repeat(np.arange(5), 20), resamples=400, seed=trial)
        held += found.low <= 0 <= found.high
    assert held >= 176  # the plain percentile interval held it in about 162


def test_a_paired_difference_is_sharper_than_its_two_halves():
    generator = np.random.default_rng(3)
    before = generator.normal(size=50) * 5
    after = before + 1 + generator.normal(size=50) * 0.1
    paired = cluster_bootstrap(lambda rows: after[rows].mean() - before[rows].mean(), list(range(50)), seed=0)
    assert 0.9 < paired.low < paired.value < paired.high < 1.1
    assert cluster_mean(after, list(range(50)), seed=0).low < 0.5


def test_few_groups_are_said_to_be_rough_and_one_gives_no_interval():
    four = cluster_mean([0.0, 1.0, 0.0, 1.0], list("abcd"))
    assert "only 4 groups" in four.note
    one = cluster_mean([0.0, 1.0], list("aa"))
    assert (one.value, one.low, one.high) == (0.5, None, None)
    assert "no interval" in one.note


def test_without_rows_there_is_no_figure():
    assert cluster_mean([], []).value is None


def test_the_paired_t_against_a_hand_computed_value():
    # mean 2, standard deviation 1, n 4: t = 2 / (1 / 2)
    assert paired_t([1, 2, 2, 3]) == pytest.approx(2 / (math.sqrt(2 / 3) / 2))
    assert paired_t([0.0, 0.0]) == 0


def test_correlation_of_a_constant_is_undefined():
    assert math.isnan(correlation(np.ones(3), np.arange(3.0)))
    assert correlation(np.arange(4.0), -np.arange(4.0)) == pytest.approx(-1)


def test_a_win_rate_that_length_alone_makes_is_one_half_where_lengths_are_equal():
    draw = np.random.default_rng(0)
    differences = draw.normal(30, 60, size=2000)  # ours are longer on the whole
    scaled = np.tanh(differences / differences.std())
    by_length = (draw.random(2000) < 1 / (1 + np.exp(-2 * scaled))).astype(float)
    by_quality = (draw.random(2000) < 1 / (1 + np.exp(-(0.8 + 0 * scaled)))).astype(float)
    assert by_length.mean() > 0.6
    assert length_controlled_share(by_length, scaled) == pytest.approx(0.5, abs=0.04)
    assert length_controlled_share(by_quality, scaled) == pytest.approx(1 / (1 + math.exp(-0.8)), abs=0.04)


def test_length_control_without_a_difference_is_the_plain_win_rate_and_undefined_with_one_constant():
    wins = np.asarray([1.0, 1.0, 0.5, 0.0] * 25)
    assert length_controlled_share(wins, np.zeros(100)) == pytest.approx(wins.mean(), abs=1e-3)
    assert math.isnan(length_controlled_share(wins, np.full(100, 0.5)))
    assert math.isnan(length_controlled_share(np.zeros(0), np.zeros(0)))


@pytest.mark.parametrize("rows", [1, 5, 300])
def test_a_policy_that_always_wins_stays_finite(rows):
    draw = np.random.default_rng(rows)
    found = length_controlled_share(np.ones(rows), np.tanh(draw.normal(size=rows)) if rows > 1 else np.zeros(1))
    assert 0.9 < found < 1


def test_the_logistic_fit_meets_the_first_order_conditions_and_sklearn():
    linear_model = pytest.importorskip("sklearn.linear_model")
    draw = np.random.default_rng(3)
    x, noise = draw.normal(size=400), draw.random(400)
    won = (noise < 1 / (1 + np.exp(-(0.3 - 1.1 * x)))).astype(float)
    found = logistic_fit(np.stack([np.ones(400), x], axis=1), won, ridge=0.5)
    theirs = linear_model.LogisticRegression(C=2.0, fit_intercept=False, tol=1e-10, max_iter=1000)
    theirs.fit(np.stack([np.ones(400), x], axis=1), won)
    assert found == pytest.approx(theirs.coef_[0], abs=1e-4)
