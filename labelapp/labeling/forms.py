"""What the browser may say, and the signed claim that an item was handed to this person."""

from typing import NamedTuple
from uuid import UUID

from django import forms
from django.core import signing

from labelapp.labeling.answers import ranking_of
from labelapp.labeling.queue import MOST
from labelapp.labeling.refusals import ForeignClaim, NotAnAnswer
from labelapp.models import Project, Slot

SALT = "labelapp.labeling.claim"
BOTH_BAD = "both_bad"
LONGEST_SECONDS = 3600


class Claim(NamedTuple):
    """Which hand-out a form answers, and the guidelines it showed."""

    slot_id: int
    claim_token: UUID
    guideline_id: int | None


def sign_claim(*, slot: Slot, labeler, guideline_id: int | None) -> str:
    """Text for a form: once a slot is handed on, this signature is the only proof of who held it before."""
    owner = [slot.project_id, labeler.pk]
    return signing.dumps([owner, slot.pk, str(slot.claim_token), guideline_id], salt=SALT)


def read_claim(text: str, *, project: Project, labeler) -> Claim:
    """Raise ForeignClaim unless we signed it for this person in this project."""
    try:
        owner, slot_id, token, guideline_id = signing.loads(text, salt=SALT)
    except signing.BadSignature:
        owner = None
    if owner != [project.pk, labeler.pk]:
        raise ForeignClaim("This form was not made for you. Reload the page and answer there.")
    return Claim(slot_id, UUID(token), guideline_id)


class AnswerForm(forms.Form):
    """One submitted answer: a step, both bad, or a rank for every response."""

    claim = forms.CharField()
    submission_id = forms.UUIDField()
    answer = forms.CharField(required=False)
    rationale = forms.CharField(required=False, max_length=5000)
    active_seconds = forms.FloatField(required=False, min_value=0)

    def ranks(self) -> list[int] | None:
        """Ranks by place, from rank_0 on; None where no rank was given."""
        given = [self.data.get(f"rank_{place}") for place in range(MOST)]
        given = given[: next((i for i in range(MOST, 0, -1) if given[i - 1] is not None), 0)]
        if not given:
            return None
        if not all(rank and rank.isdecimal() for rank in given):
            raise NotAnAnswer("Give every response a rank; equal ranks are a tie.")
        return [int(rank) for rank in given]

    def said(self) -> dict:
        """Arguments for judge(). Raises NotAnAnswer."""
        if not self.is_valid():
            field, errors = next(iter(self.errors.items()))
            raise NotAnAnswer(f"{field.replace('_', ' ')}: {errors[0]} Correct it and submit again.")
        seconds = self.cleaned_data["active_seconds"]
        return self._answer() | {
            "submission_id": self.cleaned_data["submission_id"],
            "rationale": self.cleaned_data["rationale"].strip(),
            "active_seconds": None if seconds is None else min(seconds, LONGEST_SECONDS),
        }

    def _answer(self) -> dict:
        answer = self.cleaned_data["answer"]
        if answer == BOTH_BAD:
            return {"both_bad": True}
        if answer:
            try:
                return {"strength": int(answer)}
            except ValueError:
                raise NotAnAnswer(f"{answer!r} is not an answer; choose one of the steps.") from None
        ranks = self.ranks()
        if ranks is None:
            raise NotAnAnswer("Nothing is chosen yet: choose a step, or both bad.")
        return {"ranking": ranking_of(ranks)}
