"""Bradley-Terry with ties after Davidson (1970), with covariates, fitted by Newton's method. Pure; numpy alone.

With d = strength of the first - strength of the second + covariates . effects, an outcome has probability

    first better  exp(d/2) / Z        tie  nu / Z        second better  exp(-d/2) / Z        Z = their sum

Davidson's and not Rao and Kupper's (1967): given that there is no tie it is Bradley-Terry itself, half a point for a
tie is what the strengths depend on, and the log-likelihood is concave in all its parameters, covariates included.
"""

from typing import NamedTuple

import numpy as np

FIRST, TIE, SECOND = 1, 0, -1
STEPS, TOLERANCE = 60, 1e-10


class Battles(NamedTuple):
    """n outcomes between m models; each row was decided by one person for one prompt.

    first, second: (n,) int, indices of models. outcome: (n,) int, FIRST, TIE or SECOND. covariates: (n, k) float, which
    change sign when the two change places. cluster: (n,) int, what is resampled whole, such as the prompt.
    """

    first: np.ndarray
    second: np.ndarray
    outcome: np.ndarray
    covariates: np.ndarray
    cluster: np.ndarray
    models: int


class Fit(NamedTuple):
    """strengths: (m,) nats, with mean 0 within each component. effects: (k,) nats a unit. tie: nu, 0 without ties."""

    strengths: np.ndarray
    effects: np.ndarray
    tie: float


def fit(battles: Battles, *, weights: np.ndarray | None = None, prior_sd: float = np.inf, start=None) -> Fit:
    """The most likely strengths; with a prior N(0, prior_sd^2) on strengths and effects the most probable ones.

    weights: (n,), how often each row counts. Without a prior, strengths of a model that only ever won (or lost) have no
    finite value; see `unbounded`. start: a Fit to begin from. Raises ValueError where Newton's method does not settle.
    """
    weights = np.ones(len(battles.first)) if weights is None else weights
    ties = bool(weights[battles.outcome == TIE].sum() > 0)
    point = _vector(battles, ties, start)
    value, gradient, curvature = _posterior(point, battles, weights, ties, prior_sd)
    for _step in range(STEPS):
        move = np.linalg.lstsq(curvature, gradient, rcond=1e-12)[0]
        for _halving in range(40):
            new = _posterior(point + move, battles, weights, ties, prior_sd)
            if new[0] >= value - 1e-12:
                break
            move = move / 2
        point = point + move
        value, gradient, curvature = new
        if np.abs(move).max() < TOLERANCE or np.abs(gradient).max() < TOLERANCE:
            return _as_fit(point, battles, ties)
    raise ValueError("the strengths do not settle: some model only ever won or lost; give a prior")


def _vector(battles: Battles, ties: bool, start: Fit | None) -> np.ndarray:
    size = battles.models + battles.covariates.shape[1] + ties
    if start is None:
        return np.zeros(size)
    tail = [np.log(start.tie) if start.tie > 0 else 0.0] if ties else []
    return np.concatenate([start.strengths, start.effects, tail])


def _as_fit(point: np.ndarray, battles: Battles, ties: bool) -> Fit:
    m, k = battles.models, battles.covariates.shape[1]
    strengths = point[:m].copy()
    for members in components(battles):
        strengths[members] -= strengths[members].mean()
    return Fit(strengths, point[m : m + k].copy(), float(np.exp(point[-1])) if ties else 0.0)


def probabilities(difference: np.ndarray, log_tie: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(first better, tie, second better) at a difference in nats; each (n,)."""
    logits = np.stack([difference / 2, np.full_like(difference, log_tie), -difference / 2])
    shares = np.exp(logits - logits.max(axis=0))
    first, tie, second = shares / shares.sum(axis=0)
    return first, tie, second


def _posterior(point, battles: Battles, weights, ties: bool, prior_sd: float):
    """The log posterior without its constant, its gradient, and minus its second derivatives."""
    m, k = battles.models, battles.covariates.shape[1]
    i, j, x, outcome = battles.first, battles.second, battles.covariates, battles.outcome
    log_tie = point[-1] if ties else -np.inf
    difference = point[i] - point[j] + x @ point[m : m + k]
    first, tie, second = probabilities(difference, log_tie)
    happened = np.where(outcome == FIRST, first, np.where(outcome == SECOND, second, tie))
    counted = weights > 0
    value = float(weights[counted] @ np.log(np.maximum(happened[counted], 1e-300)))
    lean = first - second
    slope = weights * (outcome - lean) / 2
    bend = weights * (first + second - lean**2) / 4
    gradient = np.zeros(len(point))
    gradient[:m] = np.bincount(i, slope, m) - np.bincount(j, slope, m)
    gradient[m : m + k] = x.T @ slope
    curvature = np.zeros((len(point), len(point)))
    diagonal = np.bincount(i, bend, m) + np.bincount(j, bend, m)
    between = np.bincount(i * m + j, bend, m * m).reshape(m, m)
    curvature[:m, :m] = np.diag(diagonal) - between - between.T
    for column in range(k):
        bent = bend * x[:, column]
        curvature[:m, m + column] = np.bincount(i, bent, m) - np.bincount(j, bent, m)
        curvature[m + column, :m] = curvature[:m, m + column]
    curvature[m : m + k, m : m + k] = x.T @ (bend[:, None] * x)
    if ties:
        cross = -weights * lean * tie / 2
        gradient[-1] = float(weights @ ((outcome == TIE) - tie))
        curvature[-1, -1] = float(weights @ (tie * (1 - tie)))
        curvature[:m, -1] = np.bincount(i, cross, m) - np.bincount(j, cross, m)
        curvature[m : m + k, -1] = x.T @ cross
        curvature[-1, : m + k] = curvature[: m + k, -1]
    if np.isfinite(prior_sd):
        value -= float(point[: m + k] @ point[: m + k]) / (2 * prior_sd**2)
        gradient[: m + k] -= point[: m + k] / prior_sd**2
        curvature[range(m + k), range(m + k)] += 1 / prior_sd**2
    return value, gradient, curvature


def components(battles: Battles) -> list[list[int]]:
    """Models that comparisons join, directly or through others; largest first. Across them nothing can be said."""
    above = list(range(battles.models))

    def top(model: int) -> int:
        while above[model] != model:
            above[model] = model = above[above[model]]
        return model

    for pair in set(zip(battles.first.tolist(), battles.second.tolist(), strict=True)):
        above[top(pair[0])] = top(pair[1])
    joined: dict[int, list[int]] = {}
    for model in range(battles.models):
        joined.setdefault(top(model), []).append(model)
    return sorted(joined.values(), key=lambda members: (-len(members), members))


def unbounded(battles: Battles) -> dict[int, str]:
    """Models that never lost nor tied, or never won nor tied: "won" or "lost". Their strength has no bound."""
    points, played = np.zeros(battles.models), np.zeros(battles.models)
    for side, sign in ((battles.first, 1), (battles.second, -1)):
        points += np.bincount(side, (1 + sign * battles.outcome) / 2, battles.models)
        played += np.bincount(side, minlength=battles.models)
    extreme = [model for model in range(battles.models) if played[model] and points[model] in (0, played[model])]
    return {model: "won" if points[model] else "lost" for model in extreme}


def bootstrap(
    battles: Battles, around: Fit, *, draws: int, seed: int, prior_sd: float
) -> tuple[np.ndarray, np.ndarray]:
    """(draws, m) strengths and (draws, k) effects, each fitted to as many clusters drawn with replacement.

    A model that is in no drawn cluster has no strength in that draw: NaN.
    """
    generator = np.random.default_rng(seed)
    rows, alike = collapsed(battles)
    names, cluster = np.unique(battles.cluster, return_inverse=True)
    strengths = np.full((draws, battles.models), np.nan)
    effects = np.empty((draws, battles.covariates.shape[1]))
    for draw in range(draws):
        times = np.bincount(generator.integers(len(names), size=len(names)), minlength=len(names))
        weights = np.bincount(alike, times[cluster], len(rows.first))
        found = fit(rows, weights=weights, prior_sd=prior_sd, start=around)
        there = sum(np.bincount(side, weights, battles.models) for side in (rows.first, rows.second))
        strengths[draw] = np.where(there > 0, found.strengths, np.nan)
        effects[draw] = found.effects
    return strengths, effects


def collapsed(battles: Battles) -> tuple[Battles, np.ndarray]:
    """Rows that say the same as one, and for every row the one that stands for it, (n,) int. Covariates keep all apart.

    The result's clusters mean nothing.
    """
    if battles.covariates.shape[1]:
        return battles, np.arange(len(battles.first))
    said = np.column_stack([battles.first, battles.second, battles.outcome])
    rows, alike = np.unique(said, axis=0, return_inverse=True)
    first, second, outcome = rows.T
    return battles._replace(
        first=first, second=second, outcome=outcome, covariates=np.zeros((len(rows), 0)), cluster=np.arange(len(rows))
    ), alike.ravel()
