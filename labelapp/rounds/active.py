"""Which candidates to have judged: some by chance alone, the rest more likely the more there is to learn. Pure.

Every pick has the probability with which it was picked, above 0 for every candidate, so that what was judged can be
weighed back to what was there (Horvitz & Thompson 1952).
"""

import math
import random
from collections.abc import Callable, Sequence
from typing import NamedTuple

RANDOM, ACTIVE = "random", "active"
SHARPNESS = 8  # of the weight (rank / N)^8: the upper tenth of the candidates has 0.6 of it
FLOOR = 0.05  # share of the active picks that falls on all candidates alike


class Answer(NamedTuple):
    """What is known of one answer: the reward model's members' scores in nats, its words, its drift.

    drift: nats a token by which the policy that wrote it likes it more than its parent does; None where not measured.
    """

    scores: tuple[float, ...]
    words: int
    drift: float | None = None


class Candidate(NamedTuple):
    """Two answers to one prompt that might be compared."""

    first: Answer
    second: Answer

    @property
    def margins(self) -> list[float]:
        """By how much each member prefers the first; nats."""
        return [a - b for a, b in zip(self.first.scores, self.second.scores, strict=True)]


class Pick(NamedTuple):
    """A chosen candidate's index, the arm that chose it, and the probability with which this arm would."""

    index: int
    arm: str
    propensity: float


def disagreement(candidate: Candidate) -> float:
    """Standard deviation of the members' probabilities that the first is better: 0 for one member, 0.5 at most."""
    chances = [1 / (1 + math.exp(-max(-50.0, min(50.0, margin)))) for margin in candidate.margins]
    mean = sum(chances) / len(chances)
    return math.sqrt(sum((chance - mean) ** 2 for chance in chances) / len(chances))


def closeness(candidate: Candidate) -> float:
    """Minus the size of the mean margin, in nats: 0 where the model cannot tell."""
    return -abs(sum(candidate.margins)) / len(candidate.margins)


def drift(candidate: Candidate) -> float:
    """The larger drift of the two, in nats a token, whichever way: where the policy has moved most."""
    return max(abs(answer.drift or 0.0) for answer in (candidate.first, candidate.second))


def length_doubt(candidate: Candidate) -> float:
    """How surely the model prefers the longer answer, in nats; what an audit doubts that finds it follows length."""
    longer = candidate.first.words - candidate.second.words
    lean = sum(candidate.margins) / len(candidate.margins)
    return lean * ((longer > 0) - (longer < 0))


SIGNALS: dict[str, Callable[[Candidate], float]] = {
    "disagreement": disagreement,
    "margin": closeness,
    "drift": drift,
    "length": length_doubt,
}


def select(values: Sequence[float], count: int, *, control_share: float, rng: random.Random) -> list[Pick]:
    """Pick `count` candidates by their values, larger first in likelihood; a share of them by chance alone.

    The candidates are first split at random: a pool for the control arm, as large a share of them, and one for the
    active arm. Within a pool the probabilities are exact.
    """
    order = rng.sample(range(len(values)), len(values))
    count = min(count, len(values))
    chance = max(round(control_share * count), min(1, count - 1))
    cut = max(chance, round(control_share * len(values)))
    cut = min(cut, len(values) - (count - chance))
    control, pool = order[:cut], order[cut:]
    picked = [Pick(index, RANDOM, chance / cut) for index in control[:chance]]
    shares = inclusion([values[index] for index in pool], count - chance)
    taken = systematic(shares, rng)
    return picked + [Pick(pool[place], ACTIVE, shares[place]) for place in taken]


def inclusion(values: Sequence[float], count: int) -> list[float]:
    """Probabilities that add up to `count`, each above 0 and at most 1, proportional to a power of the rank.

    Equal values have equal probabilities.
    """
    if not count:
        return [0.0] * len(values)
    ordered = sorted(values)
    place: dict[float, list[int]] = {}
    for rank, value in enumerate(ordered):
        place.setdefault(value, []).append(rank)
    middle = {value: (sum(ranks) / len(ranks) + 0.5) / len(values) for value, ranks in place.items()}
    powers = [middle[value] ** SHARPNESS for value in values]
    total = sum(powers)
    weights = [(1 - FLOOR) * power / total + FLOOR / len(values) for power in powers]
    sure: set[int] = set()
    while True:  # whoever's share would pass 1 is sure, and the others share what is left
        left = count - len(sure)
        rest = sum(weight for index, weight in enumerate(weights) if index not in sure)
        shares = [1.0 if index in sure else left * weight / rest for index, weight in enumerate(weights)]
        over = {index for index, share in enumerate(shares) if share >= 1 and index not in sure}
        if not over:
            return shares
        sure |= over


def systematic(shares: Sequence[float], rng: random.Random) -> list[int]:
    """Indices drawn so that each comes with exactly its probability; their number is the sum, which is whole.

    Systematic sampling in random order (Madow 1949).
    """
    count, start = round(sum(shares)), rng.random()
    taken, reached = [], 0.0
    for index in rng.sample(range(len(shares)), len(shares)):
        reached += shares[index]
        if len(taken) < count and reached > start + len(taken) - 1e-9:
            taken.append(index)
    return taken
