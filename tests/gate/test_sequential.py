"""The sequential test: it may be looked at after every judgment and still errs no more often than it says."""

import math

import numpy as np
import pytest
from scipy import stats

from labelapp.rounds.sequential import (
    Counts,
    confidence_sequence,
    is_decided,
    log_evidence,
    looks,
    needed,
    stopping_times,
)

RUNS = 2000
ERROR = 3 * math.sqrt(0.05 * 0.95 / RUNS)  # three standard errors of a share of 5 % in so many runs


def test_the_number_of_comparisons_is_the_textbooks():
    # (1.959964 + 0.841621)^2 / 4 / 0.03^2 = 7.84888 / 0.0036 = 2180.2
    assert needed(difference=0.03, alpha=0.05, power=0.8) == 2181
    assert needed(difference=0.03, alpha=0.05, power=0.8, ties=0.25) == math.ceil(2180.24 * 0.75)
    assert needed(difference=0.06, alpha=0.05, power=0.8) == math.ceil(2180.24 / 4)


def test_that_many_comparisons_have_that_power():
    """By the exact binomial distribution: 53 against 50 %, two-sided at 5 %."""
    n = needed(difference=0.03, alpha=0.05, power=0.8)
    critical = stats.binom.ppf(0.975, n, 0.5)
    assert stats.binom.sf(critical, n, 0.53) == pytest.approx(0.8, abs=0.01)


def test_the_evidence_by_hand():
    """d = 0.1: bets 0.4 and 0.8 of both signs, weights 0.4 and 0.1 each; two wins and a loss against one half."""
    by_hand = 0.4 * (1.2**2 * 0.8 + 0.8**2 * 1.2) + 0.1 * (1.4**2 * 0.6 + 0.6**2 * 1.4)
    assert math.exp(log_evidence(Counts(2, 1, 0), 0.5, 0.1)[0]) == pytest.approx(by_hand)
    assert log_evidence(Counts(2, 1, 7), 0.5, 0.1)[0] == pytest.approx(math.log(by_hand))  # a tie is an even bet
    assert log_evidence(Counts(0, 0, 0), 0.5, 0.1)[0] == pytest.approx(0)


def test_the_evidence_against_the_truth_is_one_on_average():
    """The martingale's mean over every outcome of eight judgments with win rate 0.6 and ties 0.2."""
    win, loss, tie, total = 0.5, 0.3, 0.2, 0.0
    for wins in range(9):
        for losses in range(9 - wins):
            ties = 8 - wins - losses
            ways = math.factorial(8) / math.factorial(wins) / math.factorial(losses) / math.factorial(ties)
            chance = ways * win**wins * loss**losses * tie**ties
            total += chance * math.exp(log_evidence(Counts(wins, losses, ties), 0.6, 0.05)[0])
    assert total == pytest.approx(1)


@pytest.mark.parametrize("ties", [0.0, 0.3])
def test_where_there_is_no_difference_looking_every_time_stops_falsely_no_more_often_than_alpha(ties):
    most = 2 * needed(difference=0.05, alpha=0.05, power=0.8)
    stopped = stopping_times(0.5, runs=RUNS, most=most, alpha=0.05, difference=0.05, seed=7, ties=ties)
    assert 0 < np.isfinite(stopped).mean() <= 0.05 + ERROR
    naive = naive_stops(most, ties)
    assert naive > 0.2  # what looking every time does to a test that is made to be looked at once


def naive_stops(most: int, ties: float) -> float:
    drawn = np.random.default_rng(7).random((RUNS, most))
    x = np.where(drawn < 0.5 - ties / 2, 0.5, np.where(drawn < 0.5 + ties / 2, 0.0, -0.5))
    n = np.arange(1, most + 1)
    z = np.cumsum(x, axis=1) / np.sqrt(n * (1 - ties) / 4)
    return float((np.abs(z[:, 20:]) > 1.96).any(1).mean())


def test_the_confidence_sequence_holds_the_truth_at_all_times_together():
    generator, missed = np.random.default_rng(11), 0
    for _ in range(200):
        x = generator.random(300) < 0.55
        wins = np.cumsum(x)
        for n in range(5, 301, 5):
            if log_evidence(Counts(int(wins[n - 1]), int(n - wins[n - 1]), 0), 0.55, 0.1)[0] >= math.log(20):
                missed += 1
                break
    assert missed / 200 <= 0.05 + 3 * math.sqrt(0.05 * 0.95 / 200)
    low, high = confidence_sequence(Counts(165, 135, 0), alpha=0.05, difference=0.1)
    assert low < 0.55 < high


def test_as_many_as_looking_needs_find_the_difference_with_the_power_that_was_asked_for():
    cost = looks(0.05, 0.8)
    assert 1.2 < cost.most < 1.6 and cost.usual < 0.8  # of `needed`: a third more at worst, a third less usually
    n = needed(difference=0.04, alpha=0.05, power=0.8)
    stopped = stopping_times(
        0.54, runs=1000, most=math.ceil(cost.most * n), alpha=0.05, difference=0.04, seed=3
    )
    assert np.isfinite(stopped).mean() == pytest.approx(0.8, abs=0.04)
    assert np.median(stopped[np.isfinite(stopped)]) / n == pytest.approx(cost.usual, abs=0.06)


def test_decisions():
    how = {"alpha": 0.05, "difference": 0.05}
    assert is_decided(Counts(0, 0, 0), **how) == is_decided(Counts(30, 25, 3), **how) == ""
    assert is_decided(Counts(300, 200, 0), **how) == "candidate"
    assert is_decided(Counts(200, 300, 0), **how) == "champion"
    assert is_decided(Counts(2500, 2500, 0), **how) == "even"
    assert confidence_sequence(Counts(0, 0, 0), **how) == (0.0, 1.0)
