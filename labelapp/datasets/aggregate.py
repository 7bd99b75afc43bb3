"""From everyone's answers to decided pairs. Pure; the rule has a name and a version, which every manifest cites."""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import combinations
from statistics import fmean

RULE = {
    "name": "majority",
    "version": 2,
    "text": "Every annotator's latest answer is one vote: first better, second better, tie, or both bad. "
    "The most frequent answer decides; a pair whose most frequent answer is a tie, both bad, or shared is undecided. "
    "Answers to gold, quiz and swapped repeats are no votes, nor are ratings and demonstrations; a completion that an "
    "annotator could not rank has no vote of theirs. A margin is a share of the protocol's strongest grade.",
}


@dataclass(frozen=True)
class Vote:
    """One annotator's answer. See Judgment for the meaning of the fields."""

    annotator: str
    ranking: list[list[int]] | None
    strength: int | None
    both_bad: bool = False
    max_strength: int = 3

    def prefers(self, first: int, second: int) -> str | None:
        """What this vote says of two positions: "first", "second", "tie", "both_bad", or nothing."""
        if self.ranking is None:
            return "both_bad" if self.both_bad else None
        tier = {position: level for level, tier in enumerate(self.ranking) for position in tier}
        if first not in tier or second not in tier:
            return None
        if tier[first] == tier[second]:
            return "tie"
        return "first" if tier[first] < tier[second] else "second"


@dataclass(frozen=True)
class DecidedPair:
    """Positions of the winner and the loser, the votes, and the mean strength of the winner's votes as a share."""

    chosen: int
    rejected: int
    margin: float
    votes_chosen: int
    votes_rejected: int
    votes_tie: int
    votes_both_bad: int


def latest_votes(votes: Iterable[Vote]) -> list[Vote]:
    """One vote an annotator, the last one: a surplus answer does not count twice."""
    return list({vote.annotator: vote for vote in votes}.values())


def decided_pairs(votes: Sequence[Vote], size: int) -> tuple[list[DecidedPair], int]:
    """Every pair of positions with a majority, and how many pairs have none."""
    decisions = [decide(votes, first, second) for first, second in combinations(range(size), 2)]
    pairs = [pair for pair in decisions if pair]
    return pairs, len(decisions) - len(pairs)


def decide(votes: Sequence[Vote], first: int, second: int) -> DecidedPair | None:
    """The pair as its majority has it, or None."""
    said = [vote.prefers(first, second) for vote in votes]
    counts = Counter(said)
    side = max(("first", "second"), key=lambda name: counts[name])
    others = [counts[other] for other in ("first", "second", "tie", "both_bad") if other != side]
    if counts[side] <= max(others):
        return None
    chosen, rejected = (first, second) if side == "first" else (second, first)
    strengths = [
        abs(vote.strength) / vote.max_strength
        for vote, word in zip(votes, said, strict=True)
        if word == side and vote.strength is not None
    ]
    return DecidedPair(
        chosen=chosen,
        rejected=rejected,
        margin=round(fmean(strengths), 6) if strengths else 0.0,
        votes_chosen=counts[side],
        votes_rejected=counts["second" if side == "first" else "first"],
        votes_tie=counts["tie"],
        votes_both_bad=counts["both_bad"],
    )
