"""What the browser may say, as an Answer."""

import json
from collections.abc import Mapping
from typing import Any

from django import forms
from django.core.exceptions import ValidationError
from django.utils.translation import gettext

from labelapp.labeling.answers import LONGEST_TEXT, Answer, ranking_of
from labelapp.labeling.protocol import MOST, Protocol
from labelapp.labeling.refusals import NotAnAnswer

BOTH_BAD = "both_bad"
UNRANKABLE = "x"
LONGEST_SECONDS = 3600


FIELDS = {
    "submission_id": forms.UUIDField(),
    "answer": forms.CharField(required=False),
    "rationale": forms.CharField(required=False, max_length=5000),
    "rewrite": forms.CharField(required=False, max_length=LONGEST_TEXT, strip=False),
    "rewrite_of": forms.IntegerField(required=False, min_value=0, max_value=MOST - 1),
    "spans": forms.JSONField(required=False),
    "active_seconds": forms.FloatField(required=False, min_value=0),
    "seen": forms.CharField(required=False, max_length=200),
}
LEFT_OUT = {name: field.clean(None) for name, field in FIELDS.items() if not field.required}


class AnswerForm:
    """One submitted answer: a step, both bad, or a rank for every response; and what else the protocol asks.

    What is answered (a claim, a judgment, a chat's turn) is for whoever reads the form to know.
    Fields by place: rank_<place>, rating_<key>_<place>, safety_<place>. `spans` is a JSON list of {"place", "start",
    "end", "quote", "reason"}; `reasons` may come more than once; `seen` is a comma list of shares by place. A Form of
    Django would copy its fields for each answer, and they only read.

    active_seconds and seen are what the browser measured. The page holds back an answer that comes before the project's
    minimum_seconds; nothing is refused here for it, since clocks and windows differ: the measures are stored.
    """

    def __init__(self, data: Mapping[str, Any]) -> None:
        self.data = data
        self.cleaned_data: dict[str, Any] = {}

    def said(self, protocol: Protocol, size: int) -> dict[str, Any]:
        """submission_id, answer, active_seconds and seen, as judge() takes them. Raises NotAnAnswer."""
        self.cleaned_data = {name: self._cleaned(name, field) for name, field in FIELDS.items()}
        seconds = self.cleaned_data["active_seconds"]
        return {
            "submission_id": self.cleaned_data["submission_id"],
            "answer": Answer(**self._compared(protocol, size), **self._about(protocol, size)),
            "active_seconds": None if seconds is None else min(seconds, LONGEST_SECONDS),
            "seen": self._seen(size),
        }

    def _cleaned(self, name: str, field: forms.Field) -> Any:
        if name in LEFT_OUT and name not in self.data:
            return LEFT_OUT[name]
        try:
            return field.clean(self.data.get(name))
        except ValidationError as error:
            raise NotAnAnswer(
                gettext("%(value)s: %(errors)s Correct it and submit again.")
                % {"value": name.replace("_", " "), "errors": error.messages[0]}
            ) from None

    def _compared(self, protocol: Protocol, size: int) -> dict[str, Any]:
        answer = self.cleaned_data["answer"]
        if answer == BOTH_BAD:
            return {"both_bad": True}
        if answer:
            try:
                return {"strength": int(answer)}
            except ValueError:
                raise NotAnAnswer(
                    gettext("%(answer)r is not an answer; choose one of the steps.") % {"answer": answer}
                ) from None
        ranks = self._ranks(size)
        if ranks is not None:
            left_out = tuple(place for place, rank in enumerate(ranks) if rank is None)
            return {"ranking": ranking_of(ranks), "unrankable": left_out}
        if protocol.form in ("rating", "demonstration"):
            return {}
        raise NotAnAnswer(gettext("Nothing is chosen yet: choose a step, or both bad."))

    def _ranks(self, size: int) -> list[int | None] | None:
        """Ranks by place; None where no rank was given, or the protocol ranks nothing."""
        given = [self.data.get(f"rank_{place}") for place in range(MOST)]
        named = [place for place, rank in enumerate(given) if rank is not None]
        if not named:
            return None
        given = given[: max(size, named[-1] + 1)]
        if not all(rank and (rank.isdecimal() or rank == UNRANKABLE) for rank in given):
            raise NotAnAnswer(gettext("Give every response a rank; equal ranks are a tie."))
        return [None if rank == UNRANKABLE else int(rank) for rank in given]

    def _about(self, protocol: Protocol, size: int) -> dict[str, Any]:
        rewrite = self._written("rewrite")
        return {
            "ratings": {c.key: values for c in protocol.criteria if (values := self._ratings(c, size))},
            "safety": tuple(self.data.get(f"safety_{place}", "") for place in range(size)) if protocol.safety else (),
            "spans": self._spans(),
            "reasons": tuple(dict.fromkeys(self._list("reasons"))),
            "rationale": self._written("rationale"),
            "rewrite": rewrite,
            "rewrite_of": self.cleaned_data["rewrite_of"] if rewrite else None,
        }

    def _written(self, name: str) -> str:
        """A text as it was typed: browsers send each line break of a form as two characters."""
        return self.cleaned_data[name].replace("\r\n", "\n").strip()

    def _list(self, name: str) -> list[str]:
        return self.data.getlist(name) if hasattr(self.data, "getlist") else list(self.data.get(name, ()))

    def _ratings(self, criterion, size: int) -> tuple[int | None, ...]:
        """Values by place. An unticked flag is a no; nothing at all is nothing."""
        given = [self.data.get(f"rating_{criterion.key}_{place}", "") for place in range(size)]
        if criterion.kind == "flag":
            return tuple(int(text not in ("", "0")) for text in given)
        if not any(given):
            return ()
        try:
            return tuple(int(text) if text else None for text in given)
        except ValueError:
            raise NotAnAnswer(
                gettext("%(label)s: %(given)s must be whole numbers.") % {"label": criterion.label, "given": given}
            ) from None

    def _spans(self) -> tuple[dict[str, Any], ...]:
        spans = self.cleaned_data["spans"] or []
        try:
            return tuple(
                {
                    "place": int(span["place"]),
                    "start": None if span.get("start") is None else int(span["start"]),
                    "end": None if span.get("end") is None else int(span["end"]),
                    "quote": str(span["quote"]),
                    "reason": str(span["reason"]),
                }
                for span in spans
            )
        except (TypeError, KeyError, ValueError, AttributeError):
            raise NotAnAnswer(gettext("The marked pieces cannot be read; mark them again.")) from None

    def _seen(self, size: int) -> list[float]:
        try:
            shares = [min(1.0, max(0.0, float(text))) for text in self.cleaned_data["seen"].split(",")]
        except ValueError:
            return []
        return shares if len(shares) == size else []


def read_draft(text: str) -> dict[str, Any]:
    """A draft's fields. Raises NotAnAnswer."""
    try:
        body = json.loads(text)
    except ValueError:
        body = None
    if not isinstance(body, dict) or len(text) > 2 * LONGEST_TEXT:
        raise NotAnAnswer(gettext("This draft cannot be read."))
    return body


def fields_of(answer: Answer) -> dict[str, Any]:
    """The fields in which the form would say this answer: what AnswerForm reads, as a draft keeps it."""
    fields = {"rationale": answer.rationale, "rewrite": answer.rewrite, "reasons": list(answer.reasons)}
    if answer.both_bad or answer.strength is not None:
        fields["answer"] = BOTH_BAD if answer.both_bad else str(answer.strength)
    for rank, tier in enumerate(answer.ranking or (), start=1):
        fields |= {f"rank_{place}": str(rank) for place in tier}
    fields |= {f"rank_{place}": UNRANKABLE for place in answer.unrankable}
    for key, values in answer.ratings.items():
        fields |= {f"rating_{key}_{place}": str(value) for place, value in enumerate(values) if value is not None}
    fields |= {f"safety_{place}": word for place, word in enumerate(answer.safety)}
    if answer.spans:
        fields["spans"] = json.dumps(answer.spans)
    if answer.rewrite_of is not None:
        fields["rewrite_of"] = str(answer.rewrite_of)
    return fields
