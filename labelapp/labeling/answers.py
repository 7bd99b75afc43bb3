"""What an answer is, as a labeler sees it and as it is stored. Pure functions."""

import hashlib
import json
import re
from dataclasses import dataclass, field, replace
from typing import Any

from django.utils.translation import gettext

from labelapp.labeling.protocol import SAFETY, Criterion, Protocol
from labelapp.labeling.refusals import NotAnAnswer

Tiers = tuple[tuple[int, ...], ...]
LONGEST_TEXT = 20_000
MOST_SPANS = 50
# A word, or one character of a script that writes without spaces.
UNSPACED = r"\u0e00-\u0eff\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af"
WORD = re.compile(rf"[{UNSPACED}]|[^\W{UNSPACED}]+")


@dataclass(frozen=True)
class Answer:
    """One answer. Of strength, ranking and both_bad it has one, or none where the protocol asks no comparison.

    strength: for a pair, negative favours the left and positive the right one; 0 is the tie.
    ranking: tiers of places, best first; places in one tier are tied.
    unrankable: places that the ranking leaves out.
    ratings: values by criterion, then by place; None where nothing was said. safety: "safe" or "unsafe" by place.
    spans: {"place", "start", "end", "quote", "reason"}; offsets in code points of the text, or None.
    rewrite_of: the place that a rewrite started from.
    """

    strength: int | None = None
    ranking: Tiers | None = None
    both_bad: bool = False
    unrankable: tuple[int, ...] = ()
    ratings: dict[str, tuple[int | None, ...]] = field(default_factory=dict)
    safety: tuple[str, ...] = ()
    spans: tuple[dict[str, Any], ...] = ()
    reasons: tuple[str, ...] = ()
    rationale: str = ""
    rewrite: str = ""
    rewrite_of: int | None = None


def check_answer(answer: Answer, *, size: int, protocol: Protocol) -> None:
    """Raise NotAnAnswer unless the protocol knows this answer to `size` completions."""
    _check_comparison(answer, size, protocol)
    _check_ratings(answer, size, protocol)
    _check_spans(answer, size, protocol)
    _check_words(answer, protocol)
    _check_rewrite(answer, size, protocol)


def _check_comparison(answer: Answer, size: int, protocol: Protocol) -> None:
    said = sum([answer.strength is not None, answer.ranking is not None, answer.both_bad])
    if protocol.form in ("rating", "demonstration"):
        if said:
            raise NotAnAnswer(
                gettext("Nothing is compared under this protocol; answer what is asked about each response.")
            )
        return
    if said != 1:
        raise NotAnAnswer(
            gettext("An answer says one thing, this one says %(said)s: choose one step, or both bad.")
            % {"said": said}
        )
    if answer.both_bad and not protocol.both_bad:
        raise NotAnAnswer(gettext("Both bad is not an answer under this protocol; choose the better one."))
    if answer.strength is not None:
        _check_strength(answer.strength, size, protocol)
    if answer.ranking is not None:
        _check_ranking(answer, size, protocol)


def _check_strength(strength: int, size: int, protocol: Protocol) -> None:
    most = protocol.max_strength
    if not protocol.is_pair(size):
        raise NotAnAnswer(
            gettext("A strength answers a pair, this comparison has %(size)s responses: give each one a rank.")
            % {"size": size}
        )
    if not -most <= strength <= most:
        raise NotAnAnswer(
            gettext("Strength %(strength)s is out of range; choose between %(value)s and %(most)s.")
            % {"strength": strength, "value": -most, "most": most}
        )
    if strength == 0 and not protocol.tie:
        raise NotAnAnswer(gettext("A tie is not an answer under this protocol; choose the better one."))


def _check_ranking(answer: Answer, size: int, protocol: Protocol) -> None:
    ranked = sorted(place for tier in answer.ranking for place in tier)
    if sorted([*ranked, *answer.unrankable]) != list(range(size)) or not all(answer.ranking) or not ranked:
        raise NotAnAnswer(
            gettext("The ranking %(value)s must name each of the %(size)s responses once.")
            % {"value": as_lists(answer.ranking), "size": size}
        )
    if answer.unrankable and not protocol.unrankable:
        raise NotAnAnswer(
            gettext("Leaving a response out is not possible under this protocol; give each one a rank.")
        )
    if len(answer.ranking) < len(ranked) and not protocol.tie:
        raise NotAnAnswer(gettext("A tie is not an answer under this protocol; give each response its own rank."))


def _check_ratings(answer: Answer, size: int, protocol: Protocol) -> None:
    criteria = {criterion.key: criterion for criterion in protocol.criteria}
    if unknown := sorted(set(answer.ratings) - set(criteria)):
        raise NotAnAnswer(
            gettext("%(unknown)r is not a criterion of this protocol; reload the page and answer again.")
            % {"unknown": unknown[0]}
        )
    for key, criterion in criteria.items():
        _check_rating(criterion, answer.ratings.get(key, ()), size)
    if protocol.safety and (len(answer.safety) != size or not set(answer.safety) <= set(SAFETY)):
        raise NotAnAnswer(gettext("Say of every response whether it is safe or unsafe."))
    if answer.safety and not protocol.safety:
        raise NotAnAnswer(gettext("Safety is not asked under this protocol; reload the page and answer again."))


def _check_rating(criterion: Criterion, values: tuple[int | None, ...], size: int) -> None:
    if values and len(values) != size:
        raise NotAnAnswer(
            gettext("%(label)s: %(count)s values for %(size)s responses; give one for each.")
            % {"label": criterion.label, "count": len(values), "size": size}
        )
    for value in values:
        if value is not None and value not in criterion.values:
            steps = criterion.values
            raise NotAnAnswer(
                gettext("%(label)s: %(value)s is out of range; choose from %(step)s to %(step2)s.")
                % {"label": criterion.label, "value": value, "step": steps[0], "step2": steps[-1]}
            )
    if criterion.required and (not values or None in values):
        raise NotAnAnswer(gettext("Give every response a value for “%(label)s”.") % {"label": criterion.label})


def _check_spans(answer: Answer, size: int, protocol: Protocol) -> None:
    if len(answer.spans) > MOST_SPANS:
        raise NotAnAnswer(
            gettext("%(count)s marked pieces are too many; keep the %(MOST_SPANS)s that matter.")
            % {"count": len(answer.spans), "MOST_SPANS": MOST_SPANS}
        )
    for span in answer.spans:
        if span["reason"] not in protocol.span_reasons:
            raise NotAnAnswer(
                gettext("%(span)r is not a reason to mark text here; choose one of the list.")
                % {"span": span['reason']}
            )
        if not 0 <= span["place"] < size or not span["quote"].strip():
            raise NotAnAnswer(gettext("A marked piece must quote one of the responses; mark it again."))


def _check_words(answer: Answer, protocol: Protocol) -> None:
    if unknown := sorted(set(answer.reasons) - set(protocol.chips)):
        raise NotAnAnswer(
            gettext("%(unknown)r is not one of the reasons to choose from; reload the page.")
            % {"unknown": unknown[0]}
        )
    words = len(WORD.findall(answer.rationale))
    if protocol.rationale == "off":
        if answer.rationale:
            raise NotAnAnswer(gettext("No reasons are asked under this protocol; reload the page and answer again."))
        return
    least = protocol.rationale_words
    if rationale_is_required(answer, protocol) and not words and not (answer.reasons and not least):
        raise NotAnAnswer(gettext("Say why: this protocol asks for a reason with this answer."))
    if 0 < words < least:
        raise NotAnAnswer(
            gettext("Your reason has %(words)s of at least %(least)s words; say a little more.")
            % {"words": words, "least": least}
        )


def rationale_is_required(answer: Answer, protocol: Protocol) -> bool:
    """Whether this answer needs a reason: a strength below the protocol's threshold does not."""
    below = answer.strength is not None and abs(answer.strength) < protocol.rationale_from
    return protocol.rationale == "required" and not below


def _check_rewrite(answer: Answer, size: int, protocol: Protocol) -> None:
    if protocol.form == "demonstration":
        if not answer.rewrite.strip():
            raise NotAnAnswer(gettext("Write the answer that you would want to get."))
    elif answer.rewrite and (protocol.rewrite == "off" or (protocol.rewrite == "both_bad" and not answer.both_bad)):
        raise NotAnAnswer(gettext("A better answer may not be written here; only what the protocol asks is kept."))
    if answer.rewrite_of is not None and not (answer.rewrite and 0 <= answer.rewrite_of < size):
        raise NotAnAnswer(gettext("A rewrite improves one of the responses shown; write it again from there."))
    if len(answer.rewrite) > LONGEST_TEXT:
        raise NotAnAnswer(
            gettext("Your answer has %(count)s characters; keep it under %(LONGEST_TEXT)s.")
            % {"count": len(answer.rewrite), "LONGEST_TEXT": LONGEST_TEXT}
        )


def ranking_of(ranks: list[int | None]) -> Tiers:
    """Tiers from a rank per place, 1 the best, None for the unrankable: [2, 1, 2] is ((1,), (0, 2))."""
    levels = sorted({rank for rank in ranks if rank is not None})
    return tuple(tuple(i for i, rank in enumerate(ranks) if rank == tier) for tier in levels)


def as_stored(answer: Answer, order: list[int]) -> Answer:
    """Turn places on the screen into positions of the comparison; a strength gets its ranking too.

    order: the position shown at each place, such as [1, 0] where position 1 was on the left.
    """
    return replace(
        answer,
        **_compared(answer, order),
        unrankable=tuple(sorted(order[place] for place in answer.unrankable)),
        ratings={key: by_position(values, order) for key, values in answer.ratings.items()},
        safety=by_position(answer.safety, order),
        spans=tuple(_moved(span, order) for span in answer.spans),
        rewrite_of=None if answer.rewrite_of is None else order[answer.rewrite_of],
    )


def _compared(answer: Answer, order: list[int]) -> dict[str, Any]:
    if answer.strength is not None:
        strength = answer.strength if order == [0, 1] else -answer.strength
        return {"strength": strength, "ranking": ranking_of([1 + (strength > 0), 1 + (strength < 0)])}
    if answer.ranking is not None:
        return {"ranking": tuple(tuple(sorted(order[place] for place in tier)) for tier in answer.ranking)}
    return {}


def by_position(values: tuple, order: list[int]) -> tuple:
    """Values by place, turned into values by position; nothing stays nothing."""
    return tuple(values[order.index(position)] for position in range(len(values)))


def as_shown(answer: Answer, order: list[int]) -> Answer:
    """The reverse of as_stored: positions turned into places, to show somebody what they said."""
    places = [order.index(position) for position in range(len(order))]
    shown = as_stored(replace(answer, strength=None), places)
    if answer.strength is None:
        return shown
    return replace(shown, strength=answer.strength if order == [0, 1] else -answer.strength, ranking=None)


def _moved(span: dict[str, Any], order: list[int]) -> dict[str, Any]:
    return {**span, "place": order[span["place"]]}


def located(spans: tuple[dict[str, Any], ...], texts: list[str]) -> tuple[dict[str, Any], ...]:
    """Spans whose offsets are those of their quotes in the texts, by place.

    An offset that does not fit is looked for; a quote that stands nowhere, or more than once, keeps no offsets: what
    is selected in rendered text need not stand like that in its source.
    """
    return tuple({**span, **_offsets(span, texts[span["place"]])} for span in spans)


def _offsets(span: dict[str, Any], text: str) -> dict[str, int | None]:
    start, end, quote = span.get("start"), span.get("end"), span["quote"]
    if start is None or end is None or text[start:end] != quote:
        start = text.find(quote) if text.count(quote) == 1 else None
        end = None if start is None else start + len(quote)
    return {"start": start, "end": end}


def as_lists(ranking: Tiers | None) -> list[list[int]] | None:
    return None if ranking is None else [list(tier) for tier in ranking]


def body_hash(answer: Answer, **said) -> str:
    """SHA-256 of what was said and about what. Not the time it took: a retry took longer and says the same."""
    body = json.dumps(vars(answer) | said, sort_keys=True, ensure_ascii=False, separators=(",", ":"))
    return hashlib.sha256(body.encode()).hexdigest()
