"""Strengths against published estimates, against other implementations, and against what was planted."""

import numpy as np
import pytest
from scipy.optimize import minimize
from sklearn.linear_model import LogisticRegression

from labelapp.leaderboard.davidson import (
    FIRST,
    SECOND,
    TIE,
    Battles,
    Fit,
    bootstrap,
    collapsed,
    components,
    fit,
    probabilities,
    unbounded,
)

# Davidson (1970), example 2: six brands of chocolate pudding; brand, brand, first better, second better, no preference.
PUDDING = [
    (1, 2, 19, 22, 16), (1, 3, 16, 19, 12), (2, 3, 19, 19, 10), (1, 4, 18, 23, 13), (2, 4, 23, 19, 9),
    (3, 4, 19, 20, 15), (1, 5, 13, 19, 18), (2, 5, 16, 20, 12), (3, 5, 16, 15, 17), (4, 5, 17, 14, 16),
    (1, 6, 18, 21, 12), (2, 6, 22, 20, 12), (3, 6, 13, 18, 10), (4, 6, 14, 19, 18), (5, 6, 11, 21, 12),
]  # fmt: skip
WORTHS = [0.1388005, 0.1729985, 0.1617420, 0.1653930, 0.1586805, 0.2023855]  # after seven steps, as in the paper
NU = 0.7468147
DEVIATIONS = [0.121949, 0.121818, 0.126823, 0.122003, 0.127054, 0.126594]  # of the log worths about their mean


def pudding() -> Battles:
    rows = [
        (one - 1, two - 1, outcome)
        for one, two, *counts in PUDDING
        for outcome, times in zip((FIRST, SECOND, TIE), counts, strict=True)
        for _ in range(times)
    ]
    return as_battles(rows, models=6)


def as_battles(rows, *, models, covariates=None, cluster=None) -> Battles:
    first, second, outcome = np.array(rows).T
    none = np.zeros((len(rows), 0))
    return Battles(
        first, second, outcome, none if covariates is None else covariates,
        np.arange(len(rows)) if cluster is None else cluster, models,
    )  # fmt: skip


def planted(*, models=5, n=4000, effects=(), tie=0.6, seed=3) -> tuple[Battles, np.ndarray]:
    """Outcomes drawn from known strengths, effects and ties."""
    generator = np.random.default_rng(seed)
    strengths = generator.normal(size=models)
    strengths -= strengths.mean()
    pairs = np.array([generator.choice(models, 2, replace=False) for _ in range(n)])
    x = generator.normal(size=(n, len(effects)))
    difference = strengths[pairs[:, 0]] - strengths[pairs[:, 1]] + x @ np.array(effects)
    shares = np.stack(probabilities(difference, np.log(tie) if tie else -np.inf))
    drawn = (generator.random(n)[None] > shares.cumsum(axis=0)).sum(axis=0)
    outcome = np.array([FIRST, TIE, SECOND])[drawn]
    return as_battles(np.column_stack([pairs, outcome]), models=models, covariates=x), strengths


def test_davidsons_own_example_gives_his_estimates():
    found = fit(pudding())
    worths = np.exp(found.strengths) / np.exp(found.strengths).sum()
    assert worths == pytest.approx(WORTHS, abs=1e-4)
    assert found.tie == pytest.approx(NU, abs=1e-3)


def test_the_bootstrap_spreads_as_the_published_standard_errors():
    rows = pudding()
    strengths, _ = bootstrap(rows, fit(rows), draws=400, seed=1, prior_sd=100.0)
    assert strengths.std(axis=0) == pytest.approx(DEVIATIONS, rel=0.15)


def test_in_a_balanced_design_the_order_is_that_of_the_points():
    """A win is a point, a tie half of one (Davidson 1970, section 4)."""
    generator = np.random.default_rng(8)
    rows = [(i, j, generator.choice([FIRST, TIE, SECOND])) for i in range(6) for j in range(i) for _ in range(40)]
    first, second, outcome = np.array(rows).T
    points = np.bincount(first, outcome, 6) - np.bincount(second, outcome, 6)
    assert (np.argsort(points) == np.argsort(fit(as_battles(rows, models=6)).strengths)).all()


@pytest.mark.parametrize("effects", [(), (0.7, -0.3)])
def test_another_optimiser_of_the_same_likelihood_ends_at_the_same_place(effects):
    rows, _ = planted(n=600, effects=effects)
    k = len(effects)

    def minus_log_likelihood(point):
        """By worths, as Davidson writes it, with the first worth 1: another way to say the model."""
        worth = np.exp(np.concatenate([[0.0], point[:4]]))
        a = worth[rows.first] * np.exp(rows.covariates @ point[4 : 4 + k])
        b, nu = worth[rows.second], np.exp(point[-1])
        total = a + b + nu * np.sqrt(a * b)
        chances = np.select([rows.outcome == FIRST, rows.outcome == SECOND], [a, b], nu * np.sqrt(a * b))
        return -np.log(chances / total).sum()

    best = minimize(minus_log_likelihood, np.zeros(5 + k), method="BFGS", options={"gtol": 1e-6})
    found = fit(rows)
    assert found.strengths - found.strengths[0] == pytest.approx(np.concatenate([[0], best.x[:4]]), abs=1e-4)
    assert found.effects == pytest.approx(best.x[4 : 4 + k], abs=1e-4)
    assert np.log(found.tie) == pytest.approx(best.x[-1], abs=1e-4)


def test_without_ties_it_is_logistic_regression():
    rows, _ = planted(n=1500, effects=(0.5,), tie=0)
    design = np.zeros((len(rows.first), 6))
    design[np.arange(len(design)), rows.first] += 1
    design[np.arange(len(design)), rows.second] -= 1
    design[:, 5] = rows.covariates[:, 0]
    other = LogisticRegression(fit_intercept=False, C=16.0, tol=1e-10, max_iter=2000)  # ridge 1/C = 1/4^2
    other.fit(design, rows.outcome == FIRST)
    found = fit(rows, prior_sd=4.0)
    assert found.tie == 0
    assert found.strengths == pytest.approx(other.coef_[0, :5] - other.coef_[0, :5].mean(), abs=1e-5)
    assert found.effects == pytest.approx(other.coef_[0, 5:], abs=1e-5)


def test_what_was_planted_is_found_and_style_is_told_from_strength():
    rows, strengths = planted(n=20_000, effects=(0.8,))
    found = fit(rows)
    assert found.strengths == pytest.approx(strengths, abs=0.1)
    assert found.effects == pytest.approx([0.8], abs=0.06) and found.tie == pytest.approx(0.6, abs=0.05)


def test_style_control_takes_from_a_model_what_only_its_length_won():
    """Model 0 and 1 are as good as each other, but 0 writes long, and people like long."""
    generator = np.random.default_rng(0)
    x = np.abs(generator.normal(size=(4000, 1))) + 0.2
    wins = generator.random(4000) < 1 / (1 + np.exp(-0.9 * x[:, 0]))
    rows = [(0, 1, FIRST if won else SECOND) for won in wins]
    plain = fit(as_battles(rows, models=2)).strengths
    controlled = fit(as_battles(rows, models=2, covariates=x)).strengths
    assert plain[0] - plain[1] > 0.5
    assert abs(controlled[0] - controlled[1]) < 0.25


def test_exchanging_the_sides_changes_nothing():
    rows, _ = planted(n=500, effects=(0.4,))
    turned = rows._replace(
        first=rows.second, second=rows.first, outcome=-rows.outcome, covariates=-rows.covariates
    )
    assert fit(turned).strengths == pytest.approx(fit(rows).strengths, abs=1e-8)


def test_weights_count_rows_as_often():
    rows, _ = planted(n=300)
    doubled = as_battles(
        np.column_stack([np.tile(each, 2) for each in (rows.first, rows.second, rows.outcome)]), models=5
    )
    again = fit(rows, weights=np.full(300, 2.0), prior_sd=4.0)
    assert again.strengths == pytest.approx(fit(doubled, prior_sd=4.0).strengths, abs=1e-8)


def test_rows_that_say_the_same_are_fitted_as_one():
    rows, _ = planted(n=300)
    one, alike = collapsed(rows)
    assert len(one.first) < 80 and (one.outcome[alike] == rows.outcome).all()
    counts = np.bincount(alike).astype(float)
    assert fit(one, weights=counts).strengths == pytest.approx(fit(rows).strengths, abs=1e-8)
    apart, _ = planted(n=30, effects=(1.0,))
    assert len(collapsed(apart)[0].first) == 30


def test_the_interval_of_repeated_votes_on_few_prompts_is_wide():
    """A hundred votes on ten prompts say as much as ten prompts do, not as a hundred."""
    generator = np.random.default_rng(5)
    leaning = np.repeat(generator.permutation([FIRST] * 6 + [SECOND] * 4), 10)
    rows = [(0, 1, outcome) for outcome in leaning]
    alone, by_prompt = np.arange(100), np.repeat(np.arange(10), 10)
    found = fit(as_battles(rows, models=2))
    drawn = [
        bootstrap(as_battles(rows, models=2, cluster=each), found, draws=400, seed=0, prior_sd=4.0)[0][:, 0]
        for each in (alone, by_prompt)
    ]
    # A vote's log odds have variance 1 / (n p q), a strength half of their deviation: 0.10 and 0.32 at p = 0.6.
    assert drawn[0].std() == pytest.approx(0.102, rel=0.2)
    assert drawn[1].std() > 3 * drawn[0].std()


def test_models_that_nothing_joins_are_apart():
    rows = as_battles([(0, 1, FIRST), (1, 0, FIRST), (2, 3, FIRST), (3, 2, TIE), (1, 4, TIE)], models=5)
    assert components(rows) == [[0, 1, 4], [2, 3]]
    found = fit(rows, prior_sd=4.0).strengths
    assert found[[0, 1, 4]].sum() == pytest.approx(0) and found[[2, 3]].sum() == pytest.approx(0)


def test_a_model_that_only_won_has_no_finite_strength_without_a_prior():
    rows = as_battles([(0, 1, FIRST), (0, 2, FIRST), (1, 2, FIRST), (2, 1, FIRST)], models=3)
    assert unbounded(rows) == {0: "won"}
    assert np.isfinite(fit(rows, prior_sd=4.0).strengths).all()
    far = fit(rows, prior_sd=4.0).strengths[0]
    assert fit(rows, prior_sd=8.0).strengths[0] > far + 0.5


def test_a_draw_without_a_model_says_nothing_of_it():
    rows = as_battles([(0, 1, FIRST), (1, 0, FIRST), (0, 1, TIE), (1, 2, FIRST)], models=3)
    strengths, _ = bootstrap(rows, Fit(np.zeros(3), np.zeros(0), 1.0), draws=60, seed=2, prior_sd=4.0)
    assert 0 < np.isnan(strengths[:, 2]).sum() < 60
