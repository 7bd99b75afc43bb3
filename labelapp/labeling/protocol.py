"""What a protocol may ask, read strictly. A ProtocolVersion's definition is this, as JSON."""

from dataclasses import asdict, dataclass, fields

from django.utils.translation import gettext
from django.utils.translation import gettext_noop as _

from labelapp.labeling.refusals import BadProtocol

FORMS = ("pair", "ranking", "rating", "demonstration")
KINDS = ("likert", "flag", "slider")
RATIONALES = ("off", "optional", "required")
REWRITES = ("off", "both_bad", "optional")
MOST = 9  # completions in a comparison
MOST_STRENGTH = 4
LONGEST_TEXT = 2000
GRADES = {
    1: (_("better"),),
    2: (_("slightly better"), _("much better")),
    3: (_("slightly better"), _("better"), _("far better")),
    4: (_("slightly better"), _("better"), _("much better"), _("far better")),
}
SAFETY = ("safe", "unsafe")


@dataclass(frozen=True)
class Criterion:
    """One question about each completion by itself.

    kind: "likert" from low to high in whole steps, "flag" for yes or no, "slider" from 0 to 100.
    """

    key: str
    label: str
    kind: str = "likert"
    low: int = 1
    high: int = 5
    low_word: str = ""
    high_word: str = ""
    help: str = ""
    required: bool = True

    @property
    def values(self) -> range:
        """Every value that an answer may have."""
        return {"flag": range(2), "slider": range(101)}.get(self.kind) or range(self.low, self.high + 1)


@dataclass(frozen=True)
class Protocol:
    """What a labeler is asked about one comparison.

    Attributes:
        form: "pair" is graded from left to right (more than two completions are ranked), "ranking" always ranks,
            "rating" asks the criteria alone, "demonstration" asks for an answer written by the labeler.
        max_strength: grades on each side of a pair, 1 to 4; with a tie between them that is 2 to 9 steps.
        grades: words for them, weakest first; chosen for the number where empty.
        unrankable: a ranking may leave completions out, by saying so.
        criteria_first: the criteria stand before the overall question (WebGPT, arXiv:2112.09332).
        safety: each completion must be called safe or unsafe, in absolute terms.
        span_reasons: why a piece of text may be marked; none: nothing is marked.
        rationale_from: the strength from which a required rationale is required; 0: always.
        rationale_words: how many words a rationale has at least, wherever one is given; a required one then needs words
            beside the chips.
        chips: ready-made reasons to choose from.
        rewrite: whether the labeler may write a better answer: never, when both are bad, or always.
        chat: comparisons are made live, by labelers who write the prompts.
    """

    question: str = "Which response is better?"
    form: str = "pair"
    max_strength: int = 3
    tie: bool = True
    both_bad: bool = True
    grades: tuple[str, ...] = ()
    unrankable: bool = False
    criteria: tuple[Criterion, ...] = ()
    criteria_first: bool = False
    safety: bool = False
    span_reasons: tuple[str, ...] = ()
    rationale: str = "optional"
    rationale_from: int = 0
    rationale_words: int = 0
    chips: tuple[str, ...] = ()
    rewrite: str = "off"
    chat: bool = False

    @property
    def words(self) -> tuple[str, ...]:
        return self.grades or GRADES[self.max_strength]

    @property
    def sizes(self) -> range:
        """How many completions a comparison may have."""
        return {"rating": range(1, MOST + 1), "demonstration": range(1)}.get(self.form, range(2, MOST + 1))

    def is_pair(self, size: int) -> bool:
        """Whether `size` completions are graded from left to right."""
        return self.form == "pair" and size == 2

    def as_json(self) -> dict:
        """The definition to store: what parse() reads."""
        return asdict(self)


def parse(definition: dict) -> Protocol:
    """The protocol that a definition means. Raises BadProtocol, naming the field, the value and the remedy."""
    if not isinstance(definition, dict):
        raise BadProtocol(
            gettext("A protocol is an object with a question, not %(definition)r.") % {"definition": definition}
        )
    known = {f.name for f in fields(Protocol)}
    if unknown := sorted(set(definition) - known):
        raise BadProtocol(
            gettext("%(unknown)r is not a part of a protocol; known are %(value)s.")
            % {"unknown": unknown[0], "value": ', '.join(sorted(known))}
        )
    said = dict(definition)
    said["criteria"] = tuple(_criterion(row) for row in _list(said, "criteria"))
    for name in ("grades", "span_reasons", "chips"):
        said[name] = tuple(_text(name, text, 60) for text in _list(said, name))
    protocol = Protocol(**said)
    _check(protocol)
    return protocol


def _list(said: dict, name: str) -> list:
    value = said.get(name, ())
    if not isinstance(value, (list, tuple)):
        raise BadProtocol(gettext("%(name)s must be a list, not %(value)r.") % {"name": name, "value": value})
    return list(value)


def _text(name: str, value, longest: int = LONGEST_TEXT) -> str:
    if not isinstance(value, str) or not value.strip() or len(value) > longest:
        raise BadProtocol(
            gettext("%(name)s: %(value)r must be a text of 1 to %(longest)s characters.")
            % {"name": name, "value": value, "longest": longest}
        )
    return value.strip()


def _criterion(row: dict) -> Criterion:
    known = {f.name for f in fields(Criterion)}
    if not isinstance(row, dict) or not {"key", "label"} <= set(row) <= known:
        raise BadProtocol(
            gettext("criteria: %(row)r needs key and label, and knows only %(value)s.")
            % {"row": row, "value": ', '.join(sorted(known))}
        )
    criterion = Criterion(**row)
    key = _text("criteria key", criterion.key, 40)
    _text(f"criteria {key} label", criterion.label, 120)
    if not key.isidentifier():
        raise BadProtocol(
            gettext("criteria: the key %(key)r must be one word of letters, digits and underscores.") % {"key": key}
        )
    if criterion.kind not in KINDS:
        raise BadProtocol(
            gettext("criteria %(key)s: kind %(kind)r must be one of %(value)s.")
            % {"key": key, "kind": criterion.kind, "value": ', '.join(KINDS)}
        )
    _number(f"criteria {key} low", criterion.low, -10, 100)
    _number(f"criteria {key} high", criterion.high, criterion.low + 1, criterion.low + 10)
    for name in ("low_word", "high_word", "help"):
        if getattr(criterion, name) != "":
            _text(f"criteria {key} {name}", getattr(criterion, name))
    if not isinstance(criterion.required, bool):
        raise BadProtocol(
            gettext("criteria %(key)s required: %(required)r must be true or false.")
            % {"key": key, "required": criterion.required}
        )
    return criterion


def _number(name: str, value, low: int, high: int) -> None:
    if not isinstance(value, int) or isinstance(value, bool) or not low <= value <= high:
        raise BadProtocol(
            gettext("%(name)s: %(value)r must be a whole number from %(low)s to %(high)s.")
            % {"name": name, "value": value, "low": low, "high": high}
        )


def _choice(name: str, value, choices: tuple[str, ...]) -> None:
    if value not in choices:
        raise BadProtocol(
            gettext("%(name)s: %(value)r must be one of %(value2)s.")
            % {"name": name, "value": value, "value2": ', '.join(choices)}
        )


def _check(protocol: Protocol) -> None:
    _text("question", protocol.question)
    _choice("form", protocol.form, FORMS)
    _choice("rationale", protocol.rationale, RATIONALES)
    _choice("rewrite", protocol.rewrite, REWRITES)
    _number("max_strength", protocol.max_strength, 1, MOST_STRENGTH)
    _number("rationale_words", protocol.rationale_words, 0, 100)
    _number("rationale_from", protocol.rationale_from, 0, MOST_STRENGTH)
    for name in ("tie", "both_bad", "unrankable", "criteria_first", "safety", "chat"):
        if not isinstance(getattr(protocol, name), bool):
            raise BadProtocol(
                gettext("%(name)s: %(value)r must be true or false.")
                % {"name": name, "value": getattr(protocol, name)}
            )
    if protocol.grades and len(protocol.grades) != protocol.max_strength:
        raise BadProtocol(
            gettext("grades: give %(max_strength)s words, not %(count)s: one a grade.")
            % {"max_strength": protocol.max_strength, "count": len(protocol.grades)}
        )
    keys = [criterion.key for criterion in protocol.criteria]
    if len(set(keys)) < len(keys):
        raise BadProtocol(gettext("criteria: the keys %(value)s must differ.") % {"value": ', '.join(keys)})
    if protocol.form == "rating" and not (protocol.criteria or protocol.safety):
        raise BadProtocol(
            gettext("criteria: a protocol that only rates needs at least one criterion, or the safety question.")
        )
    if protocol.chat and protocol.form not in ("pair", "rating"):
        raise BadProtocol(
            gettext("chat: live chat compares pairs or rates; the form %(form)r does neither.")
            % {"form": protocol.form}
        )
