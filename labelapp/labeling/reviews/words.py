"""An answer in words, for whoever reviews it: all that it says besides the overall question."""

from collections.abc import Iterator

from django.utils.translation import gettext as _

from labelapp.labeling.answers import Answer
from labelapp.labeling.protocol import Criterion, Protocol
from labelapp.labeling.words import own_words


def headline(answer: Answer, protocol: Protocol) -> str:
    """The answer to the overall question."""
    only_written = answer.rewrite and answer.ranking is None and answer.strength is None and not answer.both_bad
    return _("an answer that they wrote") if only_written else own_words(answer, protocol)


def in_words(answer: Answer, protocol: Protocol) -> list[tuple[str, str]]:
    """What was asked and what was said, by the letters that the labeler saw: ("Clear", "A 4, B 2")."""
    return [(what, said) for what, said in _said(answer, protocol) if said]


def _said(answer: Answer, protocol: Protocol) -> Iterator[tuple[str, str]]:
    for criterion in protocol.criteria:
        values = answer.ratings.get(criterion.key, ())
        yield criterion.label, _by_letter(_value(criterion, value) for value in values)
    yield _("Safety"), _by_letter(_(word) for word in answer.safety)
    yield _("Left out"), ", ".join(letter(place) for place in answer.unrankable)
    yield _("Reasons"), ", ".join(answer.reasons)
    yield _("Why"), answer.rationale
    for span in answer.spans:
        yield _("Marked in %s") % letter(span["place"]), f"“{span['quote']}” ({span['reason']})"
    yield _("Better answer"), answer.rewrite


def letter(place: int) -> str:
    return chr(ord("A") + place)


def _value(criterion: Criterion, value: int | None) -> str:
    if value is None:
        return "–"
    if criterion.kind == "flag":
        return _("yes") if value else _("no")
    return f"{value} / {criterion.values[-1]}"


def _by_letter(words: Iterator[str]) -> str:
    return ", ".join(f"{letter(place)} {word}" for place, word in enumerate(words))
