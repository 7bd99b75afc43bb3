"""The leaderboard as numbers: one block for each set of models that comparisons join. Plain JSON values."""

import json
from collections import Counter
from dataclasses import asdict, dataclass

import numpy as np
from django.core.cache import cache

from labelapp.leaderboard.battles import MOST, Battle, battles_of, choices_of
from labelapp.leaderboard.davidson import (
    FIRST,
    SECOND,
    TIE,
    Battles,
    Fit,
    bootstrap,
    components,
    fit,
    unbounded,
)
from labelapp.leaderboard.style import NAMES, differences
from labelapp.models import Judgment, Project

DRAWS = 200
PRIOR_SD = 4.0  # nats, 695 points: it keeps what only ever won finite, and moves what was compared often by nothing
POINTS = 400 / np.log(10)  # of the Elo scale, a nat
MEAN = 1000.0
FEWEST_PROMPTS = 10  # below that a bootstrap over prompts promises more than it knows
SEED = 0
KEPT_SECONDS = 3600


@dataclass(frozen=True)
class Standing:
    """One model. rating, low, high: Elo points about a mean of 1000 in its block; low and high None for few prompts.

    ranks: best and worst place that the intervals allow. bound: "won" or "lost" where it did nothing else, so that its
    rating is held by the prior alone.
    """

    model: str
    rating: float
    low: float | None
    high: float | None
    ranks: tuple[int, int] | None
    wins: int
    ties: int
    losses: int
    prompts: int
    bound: str


def standings(battles: list[Battle], *, style: bool, draws: int = DRAWS) -> dict:
    """{"blocks": [[Standing as a dict, ...], ...], "effects", "tie_share", "votes", "prompts", "style"}."""
    if not battles:
        return {"blocks": [], "effects": [], "votes": 0, "prompts": 0, "tie_share": None, "style": style}
    names, rows = as_rows(battles, style=style)
    found = fit(rows, prior_sd=PRIOR_SD)
    strengths, effects = bootstrap(rows, found, draws=draws, seed=SEED, prior_sd=PRIOR_SD)
    blocks = [_block(members, names, rows, battles, found, strengths) for members in components(rows)]
    return {
        "blocks": [[asdict(each) for each in block] for block in blocks],
        "effects": _effects(found, effects) if style else [],
        "votes": len(battles),
        "prompts": len(np.unique(rows.cluster)),
        "tie_share": float((rows.outcome == TIE).mean()),
        "style": style,
    }


def as_rows(battles: list[Battle], *, style: bool) -> tuple[list[str], Battles]:
    names = sorted({battle.first for battle in battles} | {battle.second for battle in battles})
    index = {name: place for place, name in enumerate(names)}
    covariates = np.zeros((len(battles), 0))
    if style:
        covariates = differences([b.styles[0] for b in battles], [b.styles[1] for b in battles])
    return names, Battles(
        first=np.array([index[battle.first] for battle in battles]),
        second=np.array([index[battle.second] for battle in battles]),
        outcome=np.array([battle.outcome for battle in battles]),
        covariates=covariates,
        cluster=np.array([battle.prompt for battle in battles]),
        models=len(names),
    )


def _block(members, names, rows: Battles, battles, found: Fit, strengths: np.ndarray) -> list[Standing]:
    """Standings of models that are joined, strongest first."""
    counts = {member: _record(member, rows) for member in members}
    bounds = unbounded(rows)
    limits = {member: _interval(strengths[:, member], counts[member]["prompts"]) for member in members}
    made = [
        Standing(
            model=names[member],
            rating=round(MEAN + POINTS * float(found.strengths[member]), 1),
            low=limits[member] and round(MEAN + POINTS * limits[member][0], 1),
            high=limits[member] and round(MEAN + POINTS * limits[member][1], 1),
            ranks=_ranks(member, members, limits),
            bound=bounds.get(member, ""),
            **counts[member],
        )
        for member in members
    ]
    return sorted(made, key=lambda standing: (-standing.rating, standing.model))


def _record(member: int, rows: Battles) -> dict[str, int]:
    as_first, as_second = rows.first == member, rows.second == member
    said = Counter(rows.outcome[as_first].tolist()) + Counter((-rows.outcome[as_second]).tolist())
    prompts = len(np.unique(rows.cluster[as_first | as_second]))
    return {"wins": said[FIRST], "ties": said[TIE], "losses": said[SECOND], "prompts": prompts}


def _interval(values: np.ndarray, prompts: int) -> tuple[float, float] | None:
    if prompts < FEWEST_PROMPTS:
        return None
    low, high = np.nanpercentile(values, [2.5, 97.5])
    return float(low), float(high)


def _ranks(member: int, members: list[int], limits: dict) -> tuple[int, int] | None:
    """One more than the models that are surely better; and as many as are not surely worse."""
    mine, others = limits[member], [limits[other] for other in members if other != member]
    if mine is None or any(other is None for other in others):
        return None
    better = sum(other[0] > mine[1] for other in others)
    worse = sum(other[1] < mine[0] for other in others)
    return 1 + better, len(members) - worse


def _effects(found: Fit, drawn: np.ndarray) -> list[dict]:
    limits = np.percentile(drawn, [2.5, 97.5], axis=0)
    return [
        {"style": name, "value": round(float(found.effects[k]), 4), "low": round(float(limits[0, k]), 4),
         "high": round(float(limits[1, k]), 4)}
        for k, name in enumerate(NAMES)
    ]  # fmt: skip


def board_of(project: Project, *, style: bool, key: str = "", value: str = "") -> dict:
    """The project's leaderboard, of one category where it is given, kept until anybody judges again."""
    newest = Judgment.objects.order_by("-pk").values_list("pk", flat=True).first()
    name = f"leaderboard:{json.dumps([project.pk, newest, style, key, value])}".encode().hex()
    if kept := cache.get(name):
        return json.loads(kept)
    every = battles_of(project, style=style)
    chosen = [battle for battle in every if battle.categories.get(key) == value] if key else every
    board = standings(chosen, style=style) | {"choices": choices_of(every), "key": key, "value": value, "most": MOST}
    cache.set(name, json.dumps(board), KEPT_SECONDS)
    return json.loads(json.dumps(board))
