"""Judgments as votes: what each annotator said of a comparison's completions, and the labels that follow from it."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from itertools import combinations
from pathlib import Path
from typing import Any, NamedTuple

from alignment.config import JobError
from alignment.data.rows import read_jsonl
from alignment.data.text import Messages, as_messages

COUNTED = {"", "reask", "returned"}  # the purposes whose answers are votes; the others check a labeler

Tiers = Sequence[Sequence[int]]  # places of completions, best tier first; those of one tier are tied


class Judgment(NamedTuple):
    """One annotator's answer to one comparison."""

    comparison: Any
    prompt: Messages
    group: str
    texts: list[str]
    annotator: str
    ranking: Tiers | None  # None where both are bad, or where nothing was compared
    strength: float  # share of the protocol's strongest grade, 0 where unknown
    both_bad: bool  # none of the completions will do
    ratings: dict[str, list[int | None]]  # by criterion, then by completion
    safety: list[str]  # "safe" or "unsafe" by completion; empty where nobody asked

    def tiers(self, criterion: str = "") -> Tiers:
        """The order of the completions, overall or by the ratings of a criterion; empty where there is none."""
        return _by_rating(self.ratings.get(criterion) or []) if criterion else self.ranking or []


class Tally(NamedTuple):
    """The votes on two completions, each counted by its annotator's weight."""

    first: int
    second: int
    wins: float  # of the first
    defeats: float
    ties: float
    strength: float  # mean of those who agree with the majority
    votes: int


def read_votes(snapshot: str | Path, split: str) -> list[list[Judgment]]:
    """The votes of a split by comparison: of each annotator the latest. Raises JobError naming file and line.

    Answers to gold, to the quiz and to swapped repeats are no votes, as for the pairs files (decision 9).
    """
    path, latest = Path(snapshot) / "judgments.jsonl", {}
    for number, row in read_jsonl(path, "judgments"):
        try:
            if row["split"] == split and _counts(row):
                latest[row["comparison"], row["annotator"]] = _judgment(row)
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise JobError(f"{path} line {number} is no judgment: {error!r}") from error
    found: dict[Any, list[Judgment]] = {}
    for judgment in latest.values():
        found.setdefault(judgment.comparison, []).append(judgment)
    return list(found.values())


def _counts(row: dict[str, Any]) -> bool:
    return row.get("purpose", "") in COUNTED and row.get("origin") != "swapped"


def _judgment(row: dict[str, Any]) -> Judgment:
    texts, ranking = list(row["completions"]), row["ranking"]
    ratings, safety = row.get("ratings") or {}, row.get("safety") or []
    if ranking and not {place for tier in ranking for place in tier} <= set(range(len(texts))):
        raise ValueError(f"the ranking {ranking} names a completion that is not there")
    if any(len(values) != len(texts) for values in [*ratings.values(), *([safety] if safety else [])]):
        raise ValueError(f"ratings and safety have one value for each of the {len(texts)} completions")
    if not set(safety) <= {"safe", "unsafe"}:
        raise ValueError(f"safety is {safety}: safe or unsafe")
    return Judgment(
        comparison=row["comparison"],
        prompt=as_messages(row["prompt"], "user"),
        group=str(row["group"]),
        texts=texts,
        annotator=row["annotator"],
        ranking=ranking,
        strength=abs(row.get("strength") or 0) / (row.get("max_strength") or 3),
        both_bad=bool(row.get("both_bad")),
        ratings=ratings,
        safety=safety,
    )


def _by_rating(values: Sequence[int | None]) -> Tiers:
    """Who was rated highest stands first; completions without a rating are left out."""
    given = sorted({value for value in values if value is not None}, reverse=True)
    return [[place for place, value in enumerate(values) if value == level] for level in given]


def tallies(orders: Iterable[tuple[Tiers, float, float]], size: int) -> list[Tally]:
    """The votes on every two of `size` completions that somebody compared.

    Args:
        orders: of each annotator the tiers, the strength, and the weight.
    """
    orders = [(_levels(tiers), strength, weight) for tiers, strength, weight in orders]
    found = (_tally(orders, first, second) for first, second in combinations(range(size), 2))
    return [tally for tally in found if tally.votes]


def _levels(tiers: Tiers) -> dict[int, int]:
    return {place: level for level, tier in enumerate(tiers) for place in tier}


def _tally(orders: Sequence[tuple[dict[int, int], float, float]], first: int, second: int) -> Tally:
    said = [
        (level[second] - level[first], strength, weight)
        for level, strength, weight in orders
        if first in level and second in level
    ]
    wins, defeats, ties = (
        sum(weight for lead, _, weight in said if sign(lead) == side) for side in (1, -1, 0)
    )
    side = sign(wins - defeats)
    agreeing = [(strength, weight) for lead, strength, weight in said if sign(lead) == side and side]
    whole = sum(weight for _, weight in agreeing)
    strength = sum(strength * weight for strength, weight in agreeing) / whole if whole else 0.0
    return Tally(first, second, wins, defeats, ties, strength, len(said))


def sign(value: float) -> int:
    return (value > 0) - (value < 0)


class Weights(NamedTuple):
    """How much comparisons and annotators count, by name; 1 where none is named."""

    comparisons: dict[str, float]
    annotators: dict[str, float]

    def of_comparison(self, comparison: Any) -> float:
        return self.comparisons.get(str(comparison), 1.0)

    def of_annotator(self, annotator: str) -> float:
        return self.annotators.get(annotator, 1.0)


EQUAL = Weights({}, {})


def read_weights(path: str) -> Weights:
    """The JSON file {"comparisons": {"12": 0.5}, "annotators": {"name": 0.8}}. Raises JobError."""
    if not path:
        return EQUAL
    try:
        given = json.loads(Path(path).read_text())
    except (OSError, ValueError) as error:
        raise JobError(f"cannot read the weights in {path}: {error}") from error
    if not isinstance(given, dict) or (unknown := sorted(set(given) - set(Weights._fields))):
        said = f"has no part {unknown[0]!r}" if isinstance(given, dict) else "is no JSON object"
        raise JobError(f'{path} {said}; it is {{"comparisons": {{"12": 0.5}}, "annotators": {{"name": 0.8}}}}')
    parts = {name: given.get(name, {}) for name in Weights._fields}
    for name, weights in parts.items():
        for key, weight in weights.items():
            if isinstance(weight, bool) or not isinstance(weight, int | float) or not 0 <= weight < float("inf"):
                raise JobError(f"{path}: the weight of {key!r} in {name} is {weight!r}; give a number from 0 on")
    return Weights(**parts)
