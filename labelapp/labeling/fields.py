"""The form's fields as plain values for the templates, with what was said already put back into them."""

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import groupby
from typing import Any

from django.utils.html import escape
from django.utils.safestring import SafeString, mark_safe
from django.utils.translation import gettext as _

from labelapp.labeling.forms import BOTH_BAD, UNRANKABLE
from labelapp.labeling.protocol import SAFETY, Criterion, Protocol
from labelapp.labeling.text.unseen import UNSEEN


@dataclass(frozen=True)
class Choice:
    """One pill: a radio button or a checkbox."""

    name: str
    value: str
    label: str
    key: str
    checked: bool
    mark: str = ""


@dataclass(frozen=True)
class Group:
    """One question about one response. A slider has a value, everything else has choices."""

    kind: str  # "rank", "likert", "flags", "slider" or "safety"
    name: str
    legend: str
    choices: tuple[Choice, ...] = ()
    value: str = ""
    required: bool = True
    low_word: str = ""
    high_word: str = ""
    help: str = ""

    @property
    def many(self) -> bool:
        """Whether several choices may be ticked."""
        return self.kind == "flags"


@dataclass(frozen=True)
class Card:
    """A response with the questions about it. `raw` is its source, to be put inside <pre>."""

    place: int
    letter: str
    html: str
    raw: SafeString
    groups: tuple[Group, ...]


@dataclass(frozen=True)
class Fields:
    """All that the form shows. `why` and `rewriting` are the protocol's words for them."""

    cards: tuple[Card, ...]
    steps: tuple[Choice, ...]  # of a pair
    ranks: tuple[str, ...]  # of a ranking
    both_bad: Choice | None
    spans: str  # JSON
    reasons: tuple[Choice, ...]
    rationale: str
    rewrite: str
    rewrite_of: str
    why: str  # "off", "optional", "sometimes" or "required"
    rewriting: str  # "off", "both_bad", "optional" or "demonstration"

    @property
    def ends(self) -> tuple[Choice, ...]:
        """The outermost steps, named under the row on a phone."""
        return (self.steps[0], self.steps[-1])

    @property
    def why_open(self) -> bool:
        return bool(self.rationale or any(reason.checked for reason in self.reasons))

    @property
    def rewrite_open(self) -> bool:
        return bool(self.rewrite) or bool(self.both_bad and self.both_bad.checked)


class Kept:
    """What was said already: the fields of a POST (a QueryDict) or of a draft (names to texts or lists of texts)."""

    def __init__(self, said: Mapping[str, Any] | None):
        self.said = said or {}

    def text(self, name: str) -> str:
        value = self.said.get(name)
        return "" if value is None or isinstance(value, (list, dict)) else str(value)

    def texts(self, name: str) -> list[str]:
        if hasattr(self.said, "getlist"):
            return self.said.getlist(name)
        value = self.said.get(name, ())
        return [str(text) for text in value] if isinstance(value, (list, tuple)) else [str(value)]

    def spans(self) -> str:
        """The marked pieces as JSON; nothing where they cannot be read."""
        spans = self.said.get("spans")
        try:
            spans = json.loads(spans) if isinstance(spans, str) else spans
        except ValueError:
            return ""
        return json.dumps(spans, ensure_ascii=False) if isinstance(spans, list) and spans else ""


def answer_fields(item, said: Mapping[str, Any] | None = None) -> Fields:
    """The fields of an item under its protocol; `said` is what the labeler said before, if anything."""
    protocol, kept, size = item.protocol, Kept(said), len(item.responses)
    pair = protocol.is_pair(size)
    ranking = not pair and protocol.form in ("pair", "ranking")
    return Fields(
        cards=tuple(_card(response, protocol, kept, size if ranking else 0) for response in item.responses),
        steps=_steps(item, kept) if pair else (),
        ranks=tuple(_rank_values(protocol, size)) if ranking else (),
        both_bad=_both_bad(kept, size) if protocol.both_bad and (pair or ranking) else None,
        spans=kept.spans(),
        reasons=_reasons(protocol, kept),
        rationale=kept.text("rationale"),
        rewrite=kept.text("rewrite"),
        rewrite_of=kept.text("rewrite_of"),
        why=_why(protocol),
        rewriting="demonstration" if protocol.form == "demonstration" else protocol.rewrite,
    )


def _steps(item, kept: Kept) -> tuple[Choice, ...]:
    chosen = kept.text("answer")
    return tuple(
        Choice(
            "answer", str(step.value), step.label, str(step.key), chosen == str(step.value),
            step.mark,
        )
        for step in item.steps
    )  # fmt: skip


def _both_bad(kept: Kept, size: int) -> Choice:
    label = _("Both bad") if size == 2 else _("All bad")
    return Choice("answer", BOTH_BAD, label, "x", kept.text("answer") == BOTH_BAD)


def _why(protocol: Protocol) -> str:
    sometimes = protocol.rationale == "required" and protocol.rationale_from > 0
    return "sometimes" if sometimes else protocol.rationale


def _reasons(protocol: Protocol, kept: Kept) -> tuple[Choice, ...]:
    if protocol.rationale == "off":
        return ()
    ticked = kept.texts("reasons")
    return tuple(Choice("reasons", chip, chip, "", chip in ticked) for chip in protocol.chips)


def _card(response: dict, protocol: Protocol, kept: Kept, ranked: int) -> Card:
    place = response["place"]
    groups = [*_criteria(protocol, place, kept), *_safety(protocol, place, kept)]
    rank = [_rank(protocol, place, ranked, kept)] if ranked else []
    groups = groups + rank if protocol.criteria_first else rank + groups
    return Card(place, response["letter"], response["html"], raw_text(response["text"]), tuple(groups))


def _rank_values(protocol: Protocol, size: int) -> Iterator[str]:
    yield from map(str, range(1, size + 1))
    if protocol.unrankable:
        yield UNRANKABLE


def _rank(protocol: Protocol, place: int, size: int, kept: Kept) -> Group:
    name = f"rank_{place}"
    chosen = kept.text(name)
    words = {UNRANKABLE: (_("Cannot be ranked"), "0")}
    choices = (
        Choice(name, value, *words.get(value, (value, value)), chosen == value)
        for value in _rank_values(protocol, size)
    )
    return Group("rank", name, _("Rank"), tuple(choices))


def _criteria(protocol: Protocol, place: int, kept: Kept) -> Iterator[Group]:
    """A group for each criterion; flags that follow one another share one."""
    for flags, criteria in groupby(protocol.criteria, lambda criterion: criterion.kind == "flag"):
        if flags:
            yield _flags(list(criteria), place, kept)
        else:
            yield from (_scale(criterion, place, kept) for criterion in criteria)


def _flags(criteria: list[Criterion], place: int, kept: Kept) -> Group:
    choices = tuple(
        Choice(name, "1", criterion.label, str(key) if key < 10 else "", kept.text(name) not in ("", "0"))
        for key, criterion in enumerate(criteria, start=1)
        for name in [f"rating_{criterion.key}_{place}"]
    )
    return Group("flags", f"flags_{criteria[0].key}_{place}", _("Tick what applies"), choices, required=False)


def _scale(criterion: Criterion, place: int, kept: Kept) -> Group:
    name = f"rating_{criterion.key}_{place}"
    value = kept.text(name)
    choices = ()
    if criterion.kind == "likert":
        choices = tuple(
            Choice(name, str(number), str(number), key, value == str(number))
            for number, key in _keyed(criterion)
        )
    words = {"low_word": criterion.low_word, "high_word": criterion.high_word, "help": criterion.help}
    return Group(criterion.kind, name, criterion.label, choices, value, criterion.required, **words)


def _keyed(criterion: Criterion) -> Iterator[tuple[int, str]]:
    """Values with their keys: the value itself where each has one digit, else the position from 1, up to 9."""
    digits = criterion.low >= 0 and criterion.high <= 9
    for position, number in enumerate(criterion.values, start=1):
        yield number, str(number) if digits else str(position) if position < 10 else ""


def _safety(protocol: Protocol, place: int, kept: Kept) -> Iterator[Group]:
    if protocol.safety:
        name = f"safety_{place}"
        labels = {"safe": _("Safe"), "unsafe": _("Unsafe")}
        choices = (
            Choice(name, value, labels[value], str(key), kept.text(name) == value)
            for key, value in enumerate(SAFETY, start=1)
        )
        yield Group("safety", name, _("Safety"), tuple(choices))


def raw_text(text: str) -> SafeString:
    """The source for <pre>: every code point stays where it is; unseen ones are named by CSS, not by more text."""
    shown = UNSEEN.sub(_named, escape(text))
    # <pre> swallows a newline at its beginning, and the parser turns carriage returns into newlines.
    return mark_safe("\n" + shown.replace("\r", "&#13;"))


def _named(found: re.Match) -> str:
    return f'<span class="unseen" data-name="U+{ord(found[0]):04X}">{found[0]}</span>'
