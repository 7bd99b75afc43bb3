"""The panel's figures on planted scores, where each has a known value."""

import math

import numpy as np
import pytest
from scipy.stats import pearsonr, spearmanr

from alignment.measures.figures import (
    PairScores,
    Resampling,
    SwapScores,
    accuracy_measures,
    below_baseline,
    calibration_error_of,
    change,
    counterfactual_measures,
    direction_measure,
    flips,
    metric,
    pearson_of,
    spearman_of,
)

HOW = Resampling(resamples=200, seed=0)
ALL = np.arange


def both_orders(x, y):
    return np.concatenate([x, -x]), np.concatenate([y, -y])


def test_correlations_equal_scipys_on_both_orders_of_every_pair():
    generator = np.random.default_rng(0)
    margins, differences = generator.normal(size=50), generator.normal(size=50).round(1)
    assert pearson_of(margins, differences)(ALL(50)) == pytest.approx(
        pearsonr(*both_orders(margins, differences)).statistic
    )
    assert spearman_of(margins, differences)(ALL(50)) == pytest.approx(
        spearmanr(*both_orders(margins, differences)).statistic
    )


def test_turning_a_pair_around_changes_no_correlation():
    margins, differences = np.array([1.0, -2.0, 0.5]), np.array([0.3, 0.1, -1.0])
    turn = np.array([1, -1, -1])
    for of in (pearson_of, spearman_of):
        assert of(margins * turn, differences * turn)(ALL(3)) == pytest.approx(of(margins, differences)(ALL(3)))


def test_calibration_error_against_a_hand_computed_value():
    # confidence sigmoid(ln 3) = 0.75 in every pair, half of them right: the error is 0.25
    margins = np.array([1, -1, 1, -1]) * math.log(3)
    assert calibration_error_of(margins)(ALL(4)) == pytest.approx(0.25)


def test_a_sure_and_right_model_is_calibrated():
    assert calibration_error_of(np.full(10, 30.0))(ALL(10)) == pytest.approx(0, abs=1e-9)


def test_flips_count_changed_verdicts_only():
    assert flips(np.array([1.0, 1.0, -1.0, 0.0]), np.array([2.0, -1.0, -3.0, 0.0])).tolist() == [0, 1, 0, 0]


def measured(margins, lengths, *, trivial=None):
    scores = PairScores(np.asarray(margins, dtype=float), np.zeros(len(margins)))
    groups = [i % 12 for i in range(len(margins))]
    found = accuracy_measures(scores, np.asarray(lengths, dtype=float), groups, trivial or {})
    return {m.key: metric(m, HOW) for m in found}


def test_a_model_that_only_counts_length_is_found_out():
    generator = np.random.default_rng(1)
    lengths = generator.normal(size=240) + 0.5
    found = measured(lengths, lengths, trivial={"longer_wins": lengths})
    assert found["accuracy_chosen_longer"]["value"] == 1
    assert found["accuracy_chosen_shorter"]["value"] == 0
    assert found["length_correlation"]["value"] == pytest.approx(1)
    assert found["length_correlation"]["baselines"]["labels"] < 0.6
    assert "no better than the trivial baseline longer wins" in found["reward_accuracy"]["note"]
    assert found["accuracy_chosen_longer"]["n"] + found["accuracy_chosen_shorter"]["n"] == 240


def test_accuracy_below_a_trivial_baseline_says_so_and_above_says_nothing():
    assert below_baseline(0.6, {"longer_wins": 0.77, "tfidf": 0.7}) == "below the trivial baseline longer wins (0.770)"
    assert below_baseline(0.8, {"longer_wins": 0.77}) == ""
    assert below_baseline(None, {"longer_wins": None}) == ""


def test_a_gender_biased_score_flips_and_a_fair_one_does_not():
    generator = np.random.default_rng(2)
    content, groups = generator.normal(size=(2, 100)) * 0.1, list(range(100))
    fair = SwapScores(content[0], content[1], content[0], content[1])
    biased = SwapScores(content[0] + 1, content[1], content[0], content[1] + 1)  # first is a man, second a woman
    rates = [metric(counterfactual_measures(s, groups, spread=1.0)[0], HOW)["value"] for s in (fair, biased)]
    assert rates == [0.0, 1.0]
    assert metric(counterfactual_measures(biased, groups, spread=2.0)[1], HOW)["value"] == pytest.approx(0.5)
    assert metric(direction_measure(content[0] + 1, content[0], groups, spread=2.0), HOW)["value"] == pytest.approx(0.5)


def test_the_change_is_paired_on_the_same_draws():
    generator = np.random.default_rng(3)
    noise, groups = generator.normal(size=200), list(range(200))
    before, after = (PairScores(noise + shift, np.zeros(200)) for shift in (0.0, 0.3))
    lengths = generator.normal(size=200)
    old, new = (accuracy_measures(s, lengths, groups, {})[0] for s in (before, after))
    found = change(new, old, HOW, "paired")
    assert found["key"] == "reward_accuracy_change"
    assert found["value"] == pytest.approx(metric(new, HOW)["value"] - metric(old, HOW)["value"])
    assert found["low"] >= 0  # every pair's margin rose: no draw of groups can show a loss


def test_a_figure_without_rows_is_null_and_says_why():
    found = measured([1.0, 1.0], [1.0, 1.0])["accuracy_chosen_shorter"]
    assert (found["value"], found["n"]) == (None, 0)
    assert "no rows" in found["note"]
