"""What an answer is, as a labeler sees it and as it is stored. Pure functions."""

import hashlib
import json
from dataclasses import asdict, dataclass, replace

from labelapp.labeling.refusals import NotAnAnswer

Tiers = tuple[tuple[int, ...], ...]


@dataclass(frozen=True)
class Answer:
    """Exactly one of strength, ranking and both_bad.

    strength: for a pair, negative favours the left and positive the right one; 0 is the tie.
    ranking: tiers of places, best first; places in one tier are tied.
    """

    strength: int | None = None
    ranking: Tiers | None = None
    both_bad: bool = False


def check_answer(answer: Answer, *, size: int, protocol: dict) -> None:
    """Raise NotAnAnswer unless the protocol knows this answer to `size` completions."""
    said = [answer.strength is not None, answer.ranking is not None, answer.both_bad]
    if sum(said) != 1:
        raise NotAnAnswer(f"An answer says one thing, this one says {sum(said)}: choose one step, or both bad.")
    if answer.both_bad and not protocol.get("both_bad", True):
        raise NotAnAnswer("Both bad is not an answer under this protocol; choose the better one.")
    if answer.strength is not None:
        _check_strength(answer.strength, size, protocol)
    if answer.ranking is not None:
        _check_ranking(answer.ranking, size, protocol)


def _check_strength(strength: int, size: int, protocol: dict) -> None:
    most = protocol.get("max_strength", 3)
    if size != 2:
        raise NotAnAnswer(f"A strength answers a pair, this comparison has {size} responses: give each one a rank.")
    if not -most <= strength <= most:
        raise NotAnAnswer(f"Strength {strength} is out of range; choose between {-most} and {most}.")
    if strength == 0 and not protocol.get("tie", True):
        raise NotAnAnswer("A tie is not an answer under this protocol; choose the better one.")


def _check_ranking(ranking: Tiers, size: int, protocol: dict) -> None:
    places = sorted(place for tier in ranking for place in tier)
    if places != list(range(size)) or not all(ranking):
        raise NotAnAnswer(f"The ranking {as_lists(ranking)} must name each of the {size} responses once.")
    if len(ranking) < size and not protocol.get("tie", True):
        raise NotAnAnswer("A tie is not an answer under this protocol; give each response its own rank.")


def ranking_of(ranks: list[int]) -> Tiers:
    """Tiers from a rank per place, 1 the best: [2, 1, 2] is ((1,), (0, 2))."""
    return tuple(tuple(i for i, rank in enumerate(ranks) if rank == tier) for tier in sorted(set(ranks)))


def as_stored(answer: Answer, order: list[int]) -> Answer:
    """Turn places on the screen into positions of the comparison; a strength gets its ranking too.

    order: the position shown at each place, such as [1, 0] where position 1 was on the left.
    """
    if answer.strength is not None:
        strength = answer.strength if order == [0, 1] else -answer.strength
        return replace(answer, strength=strength, ranking=ranking_of([1 + (strength > 0), 1 + (strength < 0)]))
    if answer.ranking is not None:
        return replace(answer, ranking=tuple(tuple(sorted(order[place] for place in tier)) for tier in answer.ranking))
    return answer


def as_lists(ranking: Tiers | None) -> list[list[int]] | None:
    return None if ranking is None else [list(tier) for tier in ranking]


def body_hash(answer: Answer, **said) -> str:
    """SHA-256 of what was said and about what. Not the time it took: a retry took longer and says the same."""
    body = json.dumps(asdict(answer) | said, sort_keys=True, ensure_ascii=False, separators=(",", ":"))
    return hashlib.sha256(body.encode()).hexdigest()
