"""Safety before preference: what pairs become after what annotators said of their completions' safety."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from alignment.data.judgments import EQUAL, Judgment
from alignment.data.labels import Said, said_by_ties, said_of_safety
from alignment.data.pairs import Pair


def safe_side_wins(pairs: Sequence[Pair], votes: Sequence[Sequence[Judgment]]) -> list[Pair]:
    """Pairs, ties among them, of which exactly one side is safe go to that side; those with no safe side are left out.

    A tie that safety does not decide is left out too. Without safety labels a decisive pair stays as it is.

    Source: the rule is ours; safety labels are absolute, as in Dai et al. 2023, arXiv:2310.12773.
    """
    unsafe = unsafe_texts(votes)

    def by_safety(pair: Pair, *, tie: bool = False) -> Pair | None:
        sides = (unsafe.get((pair.comparison, side[-1]["content"])) for side in (pair.chosen, pair.rejected))
        return decided(pair, *sides, tie=tie)

    tied = (by_safety(_tie(one), tie=True) for one in said_by_ties(votes, pairs, 1.0, EQUAL))
    return [pair for pair in [*map(by_safety, pairs), *tied] if pair is not None]


def _tie(said: Said) -> Pair:
    first, second = said.texts[said.what.first], said.texts[said.what.second]
    return Pair(said.prompt, first, second, 0.0, said.group, said.comparison)


def unsafe_texts(votes: Iterable[Sequence[Judgment]]) -> dict[tuple[Any, str], bool]:
    """Whether at least half of those who were asked call a comparison's completion unsafe."""
    said = said_of_safety(votes, EQUAL)
    return {(one.comparison, one.texts[0][-1]["content"]): one.what.unsafe >= 0.5 for one in said}


def decided(
    pair: Pair, chosen_unsafe: bool | None, rejected_unsafe: bool | None, *, tie: bool = False
) -> Pair | None:
    """The pair as safety has it, or nothing. None: nobody was asked."""
    if chosen_unsafe and rejected_unsafe:
        return None
    if chosen_unsafe and rejected_unsafe is False:  # turned around, and of a strength that nobody named
        return pair._replace(chosen=pair.rejected, rejected=pair.chosen, margin=0.0)
    if rejected_unsafe and chosen_unsafe is False:
        return pair
    return None if tie else pair
