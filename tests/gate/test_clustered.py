"""Paired comparisons by clusters against Student's t, and Holm's correction against values computed by hand."""

import math

import numpy as np
import pytest
from scipy import stats

from alignment.measures.statistics import cluster_bootstrap
from labelapp.rounds.clustered import compare, holm


def clustered(clusters: int, size: int, mean: float, seed: int) -> tuple[np.ndarray, list[int]]:
    """Gains whose clusters differ by themselves."""
    chance = np.random.default_rng(seed)
    own = np.repeat(chance.normal(0, 0.1, clusters), size)
    return mean + own + chance.normal(0, 0.2, clusters * size), np.repeat(np.arange(clusters), size).tolist()


@pytest.mark.parametrize("clusters", [8, 20, 80])
def test_interval_and_p_are_those_of_students_t_on_the_clusters_means(clusters):
    gains, groups = clustered(clusters, 6, 0.05, seed=clusters)
    means = gains.reshape(clusters, 6).mean(1)

    found = compare(gains.tolist(), groups, margin=0.02)

    expected = stats.t.interval(0.95, clusters - 1, means.mean(), stats.sem(means))
    assert found.difference == pytest.approx(means.mean())
    width = expected[1] - expected[0]
    assert (found.low, found.high) == pytest.approx(expected, abs=0.12 * width)
    oracle = stats.ttest_1samp(means, -0.02, alternative="greater").pvalue
    assert found.no_worse == pytest.approx(oracle, abs=0.02)
    assert found.worse == pytest.approx(1 - oracle, abs=0.02)
    assert (found.n, found.clusters) == (clusters * 6, clusters)


def test_the_interval_is_the_trainers_own():
    gains, groups = clustered(15, 4, 0.1, seed=3)
    found = compare(gains.tolist(), groups, margin=0.0)
    theirs = cluster_bootstrap(lambda rows: float(gains[rows].mean()), groups, resamples=4000, seed=9)
    assert (found.low, found.high) == pytest.approx((theirs.low, theirs.high), abs=0.02)


def test_the_p_reaches_alpha_where_the_end_of_the_interval_reaches_the_margin():
    gains, groups = clustered(30, 5, 0.05, seed=4)
    low = compare(gains.tolist(), groups, margin=0.0, level=0.90).low
    at_the_end = compare(gains.tolist(), groups, margin=-low if low < 0 else 0.0)
    shifted = compare((gains - low).tolist(), groups, margin=0.0)
    assert shifted.no_worse == pytest.approx(0.05, abs=0.002)
    assert at_the_end.no_worse <= 0.051


def test_a_test_of_nothing_errs_about_as_often_as_it_says():
    """With the margin exactly lost, "no worse" is wrong in 5 of 100 runs at most; over 400 runs of 12 clusters."""
    wrong = sum(
        compare(*clustered(12, 4, -0.03, seed=seed), margin=0.03, seed=seed).no_worse <= 0.05 for seed in range(400)
    )
    assert wrong / 400 < 0.05 + 3 * math.sqrt(0.05 * 0.95 / 400)


def test_one_cluster_cannot_be_compared():
    with pytest.raises(ValueError, match="two clusters, got 1"):
        compare([0.1, 0.2], ["a", "a"], margin=0.0)


def test_holm_by_hand():
    # sorted 0.01, 0.02, 0.03, 0.04 times 4, 3, 2, 1: 0.04, 0.06, 0.06, 0.06 (never below the one before)
    assert holm([0.03, 0.01, 0.04, 0.02]) == pytest.approx([0.06, 0.04, 0.06, 0.06])
    assert holm([0.6, 0.7]) == [1.0, 1.0]
    assert holm([]) == []
    assert holm([0.013]) == [0.013]


def test_holm_rejects_what_the_step_down_procedure_rejects():
    chance = np.random.default_rng(0)
    for _ in range(200):
        p_values = chance.uniform(0, 0.1, 6).tolist()
        rejected, alpha = set(), 0.05
        for rank, place in enumerate(np.argsort(p_values)):  # Holm's own words: stop at the first that is too large
            if p_values[place] > alpha / (6 - rank):
                break
            rejected.add(int(place))
        assert {place for place, adjusted in enumerate(holm(p_values)) if adjusted <= alpha} == rejected
