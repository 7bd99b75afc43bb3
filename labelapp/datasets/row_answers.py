"""What a row says was answered, or is right. Positions are those of the row's completions, as they stand there."""

from dataclasses import dataclass, replace
from typing import Any

from labelapp.labeling.protocol import MOST_STRENGTH
from labelapp.labeling.quality.agreement import BOTH_BAD, check_gold
from labelapp.labeling.refusals import BadGold

MAX_NAME = 100
STEPS = 3  # grades on each side where a row does not say how many there were


class BadRow(ValueError):
    """A row cannot be taken. The message is a reason for a person, without the row's number."""


@dataclass(frozen=True)
class Answer:
    """One annotator's answer; positions refer to the row's completions. See Judgment for the meaning of the fields."""

    annotator: str
    ranking: list[list[int]] | None
    strength: int | None = None
    both_bad: bool = False
    rationale: str = ""
    unrankable: tuple[int, ...] = ()
    max_strength: int = STEPS


def pair_strength(record: dict[str, Any]) -> int | None:
    """How clearly the chosen answer wins, 1 to 3, from `strength` or from TRL's `margin`, a share of the strongest."""
    strength, margin = record.get("strength"), record.get("margin")
    if strength is not None:
        if type(strength) is not int or not 1 <= strength <= 3:
            raise BadRow(f"strength {strength!r} is not 1, 2 or 3")
        return strength
    if margin is None:
        return None
    if isinstance(margin, bool) or not isinstance(margin, (int, float)) or not 0 <= margin <= 1:
        raise BadRow(f"margin {margin!r} is not between 0 and 1; for steps use strength 1, 2 or 3")
    return max(1, round(margin * 3)) if margin > 0 else None


def set_answer(record: dict[str, Any], source: str, size: int) -> Answer | None:
    """The answer to a set of completions, as our own judgments.jsonl says it; None where there is none."""
    ranking, strength, both_bad = (record.get(key) for key in ("ranking", "strength", "both_bad"))
    if ranking is None and strength is None and not both_bad:
        if record.get("ratings") or record.get("safety"):
            raise BadRow("ratings alone cannot be imported: leave the row out")
        return None
    said = {"annotator": name_in(record, "annotator") or f"import:{source}", "rationale": text_in(record, "rationale")}
    if both_bad:
        if both_bad is not True or ranking is not None or strength is not None:
            raise BadRow("both_bad must be true and alone, without ranking and strength")
        return Answer(ranking=None, both_bad=True, **said)
    most = _strongest(record)
    if strength is not None and (type(strength) is not int or not -most <= strength <= most or size != 2):
        raise BadRow(f"strength {strength!r} is not a step from -{most} to {most} between two completions")
    if ranking is None:
        ranking = ranking_of(strength)
    unrankable = record.get("unrankable") or []
    _check_ranking(ranking, unrankable, size)
    if strength is not None and ranking_of(strength) != [sorted(tier) for tier in ranking]:
        raise BadRow(f"strength {strength} and ranking {ranking} say different things")
    return Answer(ranking=ranking, strength=strength, unrankable=tuple(sorted(unrankable)), max_strength=most, **said)


def gold_in(record: dict[str, Any], size: int) -> Any:
    """The known answer of a gold row: a ranking or {"both_bad": true}; None where the row knows none."""
    gold = record.get("gold")
    if gold is None:
        return None
    try:
        check_gold(gold, size)
    except BadGold as error:
        raise BadRow(f"gold: {error}") from error
    return gold


def ranking_of(strength: int) -> list[list[int]]:
    """The order that a pair's strength means: negative favours position 0."""
    return [[0, 1]] if strength == 0 else [[0], [1]] if strength < 0 else [[1], [0]]


def moved(answer: Answer, order: list[int]) -> Answer:
    """The same answer after completion order[n] has moved to position n."""
    flipped = answer.strength is not None and order == [1, 0]
    return replace(
        answer,
        ranking=answer.ranking and moved_ranking(answer.ranking, order),
        strength=-answer.strength if flipped else answer.strength,
        unrankable=tuple(sorted(order.index(position) for position in answer.unrankable)),
    )


def moved_ranking(ranking: list[list[int]], order: list[int]) -> list[list[int]]:
    return [sorted(order.index(position) for position in tier) for tier in ranking]


def moved_gold(gold: Any, order: list[int]) -> Any:
    return gold if gold is None or gold == BOTH_BAD else moved_ranking(gold, order)


def _strongest(record: dict[str, Any]) -> int:
    most = record.get("max_strength")
    if most is None:
        return STEPS
    if type(most) is not int or not 1 <= most <= MOST_STRENGTH:
        raise BadRow(f"max_strength {most!r} is not a number of grades from 1 to {MOST_STRENGTH}")
    return most


def _check_ranking(ranking: Any, unrankable: Any, size: int) -> None:
    tiers = ranking if isinstance(ranking, list) and all(isinstance(tier, list) for tier in ranking) else [[None]]
    left_out = unrankable if isinstance(unrankable, list) else [None]
    found = [position for tier in [*tiers, left_out] for position in tier]
    if any(type(position) is not int for position in found) or sorted(found) != list(range(size)) or [] in tiers:
        raise BadRow(f"ranking must name each of the positions 0 to {size - 1} once, in tiers, best first")


def name_in(record: dict[str, Any], key: str, longest: int = MAX_NAME) -> str | None:
    value = record.get(key)
    if value is None:
        return None
    if not isinstance(value, str) or not value.strip() or len(value) > longest:
        raise BadRow(f"{key} must be a text of 1 to {longest} characters")
    return value


def text_in(record: dict[str, Any], key: str) -> str:
    value = record.get(key) or ""
    if not isinstance(value, str):
        raise BadRow(f"{key} must be a text")
    return value
