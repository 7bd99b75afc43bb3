"""A protocol in words, and what changed from one to another. Pure functions."""

from dataclasses import dataclass

from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from labelapp.labeling.protocol import Criterion, Protocol
from labelapp.labeling.text.diffs import Parts, word_diff

FORMS = {
    "pair": gettext_lazy("Pairs on graded steps; more than two are ranked"),
    "ranking": gettext_lazy("Ranking"),
    "rating": gettext_lazy("Ratings of each response alone"),
    "demonstration": gettext_lazy("Demonstrations written by the labeler"),
}
KINDS = {
    "likert": gettext_lazy("Scale in whole steps"),
    "flag": gettext_lazy("Flag, yes or no"),
    "slider": gettext_lazy("Slider from 0 to 100"),
}
RATIONALES = {
    "off": gettext_lazy("Not asked"),
    "optional": gettext_lazy("Optional"),
    "required": gettext_lazy("Required"),
}
REWRITES = {
    "off": gettext_lazy("Never"),
    "both_bad": gettext_lazy("When both are bad"),
    "optional": gettext_lazy("Always possible"),
}


@dataclass(frozen=True)
class Change:
    """One part of a protocol that differs. parts: as word_diff() gives them."""

    name: str
    parts: Parts


def protocol_changes(old: Protocol, new: Protocol) -> list[Change]:
    """Every part that differs, in the order of the form; criteria by their key, and their order by itself."""
    before, after = described(old), described(new)
    names = [*after, *(name for name in before if name not in after)]
    changed = [name for name in names if before.get(name, "") != after.get(name, "")]
    return [Change(name, word_diff(before.get(name, ""), after.get(name, ""))) for name in changed]


def described(protocol: Protocol) -> dict[str, str]:
    """Each part by its name, in words."""
    asked = {
        _("Question"): protocol.question.strip(),
        _("Form"): str(FORMS[protocol.form]),
        _("Grades on each side"): ", ".join(protocol.words),
        _("Answers beside the grades"): _answers(protocol),
        _("Before the overall question"): _("the criteria") if protocol.criteria_first else "",
        _("Safety of each response"): _("asked") if protocol.safety else "",
        _("Marked text"): ", ".join(protocol.span_reasons),
        _("Reason"): _reason(protocol),
        _("Reasons to tick"): ", ".join(protocol.chips),
        _("A better answer"): str(REWRITES[protocol.rewrite]),
        _("Live chat"): _("yes") if protocol.chat else "",
    }
    asked |= {
        _("Criterion %(key)s") % {"key": criterion.key}: _criterion(criterion) for criterion in protocol.criteria
    }
    if len(protocol.criteria) > 1:
        asked[_("Order of the criteria")] = ", ".join(criterion.key for criterion in protocol.criteria)
    return {name: text for name, text in asked.items() if text}


def _answers(protocol: Protocol) -> str:
    words = [(protocol.tie, _("tie")), (protocol.both_bad, _("both bad")), (protocol.unrankable, _("unrankable"))]
    return ", ".join(word for given, word in words if given)


def _reason(protocol: Protocol) -> str:
    said = [str(RATIONALES[protocol.rationale])]
    if protocol.rationale == "required" and protocol.rationale_from:
        said.append(_("from grade %(grade)s on") % {"grade": protocol.rationale_from})
    if protocol.rationale != "off" and protocol.rationale_words:
        said.append(_("at least %(words)s words") % {"words": protocol.rationale_words})
    return ", ".join(said)


def _criterion(criterion: Criterion) -> str:
    said = [criterion.label, str(KINDS[criterion.kind])]
    if criterion.kind == "likert":
        said.append(_("%(low)s to %(high)s") % {"low": criterion.low, "high": criterion.high})
    if criterion.low_word or criterion.high_word:
        said.append(f"{criterion.low_word} – {criterion.high_word}")
    said += [criterion.help] if criterion.help else []
    return ", ".join([*said, _("required") if criterion.required else _("optional")])
