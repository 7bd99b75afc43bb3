"""From judgments to what a reward model learns: labels of two texts, whole rankings, and safety labels."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from alignment.config import COST, REWARD, Labels
from alignment.data.judgments import Judgment, Tally, Tiers, Weights, tallies
from alignment.data.pairs import Pair
from alignment.data.text import Messages, as_messages

WIN, DEFEAT, TIE = (1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (0.0, 0.0, 1.0)


class Label(NamedTuple):
    """What was said of two texts of a comparison, to one head."""

    first: int  # their places among its texts
    second: int
    outcomes: tuple[float, float, float]  # shares: the first wins, the second wins, a tie
    margin: float  # 0 (unknown or weakest) to 1; the first is the favoured side
    weight: float
    head: Any = REWARD  # its name, and in an encoded example its column
    number: int = -1  # of the pair among those with votes of known annotators, where these are weighed

    @property
    def decisive(self) -> bool:
        return self.outcomes[0] != self.outcomes[1]

    def moved(self, places: Sequence[int]) -> Label:
        """The same, after the text at place n has moved to places[n]."""
        return self._replace(first=places[self.first], second=places[self.second])


class Ranking(NamedTuple):
    """One annotator's order of a comparison's texts, to one head."""

    tiers: Tiers
    weight: float
    head: Any = REWARD

    def moved(self, places: Sequence[int]) -> Ranking:
        return self._replace(tiers=[[places[place] for place in tier] for tier in self.tiers])


class Safety(NamedTuple):
    """What was said of the safety of one text."""

    place: int
    unsafe: float  # share of the votes
    weight: float
    head: Any = COST

    def moved(self, places: Sequence[int]) -> Safety:
        return self._replace(place=places[self.place])


@dataclass
class Judged:
    """A comparison and all that was said of it, before it is tokenised."""

    name: str
    prompt: Messages
    group: str
    texts: list[Messages] = field(default_factory=list)
    said: list[Label | Ranking | Safety] = field(default_factory=list)

    def place(self, text: Messages) -> int:
        if text not in self.texts:
            self.texts.append(text)
        return self.texts.index(text)


class Said(NamedTuple):
    """One thing that was said of a comparison's texts."""

    comparison: Any
    prompt: Messages
    group: str
    texts: list[Messages]
    what: Label | Ranking | Safety


def said_by_pairs(pairs: Iterable[Pair], weights: Weights) -> Iterator[Said]:
    """Each pair as its majority has it."""
    for pair in pairs:
        label = Label(0, 1, WIN, pair.margin, weights.of_comparison(pair.comparison))
        yield Said(pair.comparison, pair.prompt, pair.group, [pair.chosen, pair.rejected], label)


def said_by_ties(
    votes: Iterable[Sequence[Judgment]], pairs: Iterable[Pair], tie_weight: float, weights: Weights
) -> Iterator[Said]:
    """What some vote ties and no decided pair orders: once, however many called it a tie, as a pair counts once."""
    decided = {
        (str(pair.comparison), frozenset((pair.chosen[-1]["content"], pair.rejected[-1]["content"]))) for pair in pairs
    }
    for judgments in votes:
        texts, orders = orders_of(judgments, REWARD, weights)
        name = str(judgments[0].comparison)
        for tally in tallies(orders, len(texts)):
            if tally.ties and (name, frozenset((texts[tally.first], texts[tally.second]))) not in decided:
                weight = tie_weight * weights.of_comparison(name)
                yield _said(judgments[0], texts, Label(tally.first, tally.second, TIE, 0.0, weight))


def said_by_votes(
    votes: Iterable[Sequence[Judgment]], head: str, how: Labels, tie_weight: float, weights: Weights
) -> Iterator[Said]:
    """Every two texts of a comparison as its annotators had them: overall, or for another head by their ratings."""
    for judgments in votes:
        texts, orders = orders_of(judgments, head, weights)
        share = weights.of_comparison(judgments[0].comparison)
        for tally in tallies(orders, len(texts)):
            if (label := label_of(tally, how, tie_weight, head)) and label.weight * share:
                yield _said(judgments[0], texts, label._replace(weight=label.weight * share))


def label_of(tally: Tally, how: Labels, tie_weight: float, head: str) -> Label | None:
    """The most frequent answer, or the share of each; nothing where all that was said is left out."""
    first, second, wins, defeats = tally.first, tally.second, tally.wins, tally.defeats
    if defeats > wins:
        first, second, wins, defeats = second, first, defeats, wins
    if how.source == "majority":
        if wins > max(defeats, tally.ties):
            return Label(first, second, WIN, tally.strength, 1.0, head)
        return Label(first, second, TIE, 0.0, tie_weight, head) if tally.ties and tie_weight else None
    counted = wins + defeats + tie_weight * tally.ties
    if not counted:
        return None
    outcomes = (wins / counted, defeats / counted, tie_weight * tally.ties / counted)
    return Label(first, second, outcomes, tally.strength, counted / tally.votes, head)


def said_by_rankings(votes: Iterable[Sequence[Judgment]], head: str, weights: Weights) -> Iterator[Said]:
    """Each annotator's whole order; those of one comparison weigh as one together."""
    for judgments in votes:
        texts, orders = orders_of(judgments, head, weights)
        share = weights.of_comparison(judgments[0].comparison) / max(1, len(orders))
        for tiers, _, weight in orders:
            if weight * share and sum(map(len, tiers)) > 1:
                yield _said(judgments[0], texts, Ranking(tiers, weight * share, head))


def said_of_safety(votes: Iterable[Sequence[Judgment]], weights: Weights) -> Iterator[Said]:
    """Each text once, with the share of those who called it unsafe."""
    for judgments in votes:
        share = weights.of_comparison(judgments[0].comparison)
        given: dict[str, list[tuple[bool, float]]] = {}
        for judgment in judgments:
            for text, word in zip(judgment.texts, judgment.safety, strict=False):
                given.setdefault(text, []).append((word == "unsafe", weights.of_annotator(judgment.annotator)))
        for text, said in given.items():
            whole = sum(weight for _, weight in said)
            if whole * share:
                unsafe = sum(weight for is_unsafe, weight in said if is_unsafe) / whole
                yield _said(judgments[0], [text], Safety(0, unsafe, share * whole / len(said)))


def orders_of(
    judgments: Sequence[Judgment], head: str, weights: Weights
) -> tuple[list[str], list[tuple[Tiers, float, float]]]:
    """The texts of a comparison, and each annotator's tiers of them with its strength and the annotator's weight."""
    texts = list(dict.fromkeys(text for judgment in judgments for text in judgment.texts))
    orders = []
    for judgment in judgments:
        places = [texts.index(text) for text in judgment.texts]
        tiers = [[places[n] for n in tier] for tier in judgment.tiers("" if head == REWARD else head)]
        strength = judgment.strength if head == REWARD else 0.0
        if tiers:
            orders.append((tiers, strength, weights.of_annotator(judgment.annotator)))
    return texts, orders


def _said(judgment: Judgment, texts: Sequence[str], what: Label | Ranking | Safety) -> Said:
    messages = [as_messages(text, "assistant") for text in texts]
    return Said(judgment.comparison, judgment.prompt, judgment.group, messages, what)
