"""Answers in words."""

from django.utils.translation import gettext

from labelapp.labeling.answers import Answer, as_shown
from labelapp.labeling.protocol import Protocol, parse
from labelapp.models import Judgment


def answer_in_words(judgment: Judgment) -> str:
    """Such as "2 far better", "tie" or "3 > 1 = 4 > 2", counting completions from 1."""
    if judgment.withdrawn:
        return "withdrawn"
    if judgment.both_bad:
        return "both bad"
    tiers = judgment.ranking
    if tiers is None:
        return "an answer of their own" if judgment.rewrite else "rated"
    if len(tiers) == 1:
        return "tie"
    if sorted(map(len, tiers)) == [1, 1]:
        words = ("better", *parse(judgment.protocol.definition).words)
        return f"{tiers[0][0] + 1} {words[abs(judgment.strength or 0)]}"
    return " > ".join(" = ".join(str(position + 1) for position in tier) for tier in tiers)


def said_of(judgment: Judgment) -> Answer:
    """What a judgment says, by place: as its labeler saw it."""
    return as_shown(stored_in(judgment), list(judgment.display_order))


def stored_in(judgment: Judgment) -> Answer:
    """What a judgment says, by position of the comparison's completions."""
    ranking = judgment.ranking
    return Answer(
        strength=judgment.strength,
        ranking=None if ranking is None else tuple(map(tuple, ranking)),
        both_bad=judgment.both_bad,
        unrankable=tuple(judgment.unrankable),
        ratings={key: tuple(values) for key, values in judgment.ratings.items()},
        safety=tuple(judgment.safety),
        spans=tuple({"place": span["position"], **span} for span in judgment.spans),
        reasons=tuple(judgment.reasons),
        rationale=judgment.rationale,
        rewrite=judgment.rewrite,
        rewrite_of=judgment.rewrite_of,
    )


def own_words(answer: Answer, protocol: Protocol) -> str:
    """The same for whoever gave the answer, by the letters they saw: "B far better", "A and B equal", "C > A = B"."""
    if answer.both_bad:
        return gettext("both bad")
    if answer.strength == 0:
        return gettext("A and B equal")
    if answer.strength is not None:
        return graded("B" if answer.strength > 0 else "A", protocol.words[abs(answer.strength) - 1])
    if answer.ranking is not None:
        return " > ".join(" = ".join(chr(ord("A") + place) for place in tier) for tier in answer.ranking)
    return gettext("an answer of your own") if answer.rewrite else gettext("rated")


def graded(side: str, grade: str) -> str:
    """A grade in the reader's language, as far as it is one of ours: "B far better", or "equal" of no side."""
    return gettext("%(side)s %(grade)s") % {"side": side, "grade": gettext(grade)} if side else gettext(grade)
