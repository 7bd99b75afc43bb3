"""An answer in words, for whoever reviews or studies it: all that it says besides the overall question."""

from collections.abc import Callable, Iterator

from django.utils.translation import gettext as _

from labelapp.labeling.answers import Answer
from labelapp.labeling.protocol import Criterion, Protocol
from labelapp.labeling.words import own_words


def headline(answer: Answer, protocol: Protocol) -> str:
    """The answer to the overall question."""
    only_written = answer.rewrite and answer.ranking is None and answer.strength is None and not answer.both_bad
    return _("an answer that they wrote") if only_written else own_words(answer, protocol)


def letter(place: int) -> str:
    return chr(ord("A") + place)


def in_words(answer: Answer, protocol: Protocol, named: Callable[[int], str] = letter) -> list[tuple[str, str]]:
    """What was asked and what was said, by the letters that the labeler saw: ("Clear", "A 4, B 2").

    named: what the completions are called instead.
    """
    return [(what, said) for what, said in _said(answer, protocol, named) if said]


def _said(answer: Answer, protocol: Protocol, named: Callable[[int], str]) -> Iterator[tuple[str, str]]:
    for criterion in protocol.criteria:
        values = answer.ratings.get(criterion.key, ())
        yield criterion.label, _by_name((_value(criterion, value) for value in values), named)
    yield _("Safety"), _by_name((_(word) for word in answer.safety), named)
    yield _("Left out"), ", ".join(named(place) for place in answer.unrankable)
    yield _("Reasons"), ", ".join(answer.reasons)
    yield _("Why"), answer.rationale
    for span in answer.spans:
        yield _("Marked in %s") % named(span["place"]), f"“{span['quote']}” ({span['reason']})"
    yield _("Better answer"), answer.rewrite


def _value(criterion: Criterion, value: int | None) -> str:
    if value is None:
        return "–"
    if criterion.kind == "flag":
        return _("yes") if value else _("no")
    return f"{value} / {criterion.values[-1]}"


def _by_name(words: Iterator[str], named: Callable[[int], str]) -> str:
    return ", ".join(f"{named(place)} {word}" for place, word in enumerate(words))
