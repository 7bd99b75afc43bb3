"""Whether answers say the same thing. Pure functions."""

from collections.abc import Iterable
from itertools import combinations
from typing import Any, NamedTuple, Protocol

from django.utils.translation import gettext

from labelapp.labeling.refusals import BadGold

BOTH_BAD = {"both_bad": True}


class Said(Protocol):
    """What is compared of an answer: a Judgment has it."""

    ranking: list[list[int]] | None
    both_bad: bool


class Share(NamedTuple):
    """So many of n. No n, no share."""

    hits: int
    n: int

    @property
    def value(self) -> float | None:
        return self.hits / self.n if self.n else None


def disagree(votes: Iterable[Said]) -> bool:
    """Whether any two of these answers differ. What compares nothing (ratings, demonstrations) is no vote."""
    return any(differ(one, other) for one, other in combinations(filter(compares, votes), 2))


def compares(said: Said) -> bool:
    return said.both_bad or said.ranking is not None


def differ(one: Said, other: Said) -> bool:
    """Whether two answers contradict each other.

    Of a pair: another winner, or a winner against a tie; how clearly it wins does not matter. Of more completions: any
    two of them in opposite order (Kendall's discordant pair); a tie contradicts no order there. Both bad differs from
    everything but both bad. Completions that one of the two left out are not compared.
    """
    if one.both_bad or other.both_bad:
        return one.both_bad != other.both_bad
    here, there = _levels(one.ranking), _levels(other.ranking)
    pair = len(here.keys() | there.keys()) == 2
    orders = [
        (_sign(here[b] - here[a]), _sign(there[b] - there[a])) for a, b in combinations(here.keys() & there.keys(), 2)
    ]
    return any(x != y if pair else x * y < 0 for x, y in orders)


def is_right(said: Said, gold: Any) -> bool:
    """Whether an answer has the winner of the known one, or all of its winners where it ties them at the top.

    What comes below the winners, and how clearly they win, is not compared.
    """
    if gold == BOTH_BAD or said.both_bad:
        return said.both_bad and gold == BOTH_BAD
    return bool(said.ranking) and set(said.ranking[0]) == set(gold[0])


def check_gold(gold: Any, size: int) -> None:
    """Raise BadGold unless this is a known answer to `size` completions: tiers of positions, or BOTH_BAD."""
    if gold == BOTH_BAD:
        return
    tiers = gold if isinstance(gold, list) and all(isinstance(tier, list) and tier for tier in gold) else [[None]]
    found = [position for tier in tiers for position in tier]
    if any(type(position) is not int for position in found) or sorted(found) != list(range(size)):
        last = size - 1
        raise BadGold(
            gettext("%(gold)r is not a known answer: give tiers of the positions 0 to %(last)s, or both_bad: true.")
            % {"gold": gold, "last": last}
        )


def _levels(ranking: list[list[int]]) -> dict[int, int]:
    return {position: level for level, tier in enumerate(ranking) for position in tier}


def _sign(number: int) -> int:
    return (number > 0) - (number < 0)
