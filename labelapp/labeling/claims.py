"""What an item's form proves: that it was handed to this person, and what it showed them."""

from typing import NamedTuple
from uuid import UUID

from django.core import signing
from django.utils.translation import gettext

from labelapp.labeling.refusals import ForeignClaim
from labelapp.models import Project, Slot

SALT = "labelapp.labeling.claim"


class Claim(NamedTuple):
    """A hand-out: once a slot is handed on, its signature is the only proof of who held it before.

    display_order: the position shown at each place. guideline_id, consent_id: the versions in force, if any.
    """

    slot_id: int
    comparison_id: int
    claim_token: UUID | None
    display_order: list[int]
    protocol_id: int
    guideline_id: int | None = None
    consent_id: int | None = None


def claim_of(slot: Slot, *, protocol_id: int, guideline_id: int | None = None, consent_id: int | None = None) -> Claim:
    """The claim of a slot that is leased now."""
    return Claim(
        slot.pk, slot.comparison_id, slot.claim_token, list(slot.display_order), protocol_id, guideline_id, consent_id
    )


def sign_claim(claim: Claim, *, project: Project, labeler) -> str:
    """Text for a form."""
    token = claim.claim_token and str(claim.claim_token)
    return signing.dumps([[project.pk, labeler.pk], *claim._replace(claim_token=token)], salt=SALT)


def read_claim(text: str, *, project: Project, labeler) -> Claim:
    """Raise ForeignClaim unless we signed it for this person in this project."""
    try:
        owner, *said = signing.loads(text, salt=SALT)
        claim = Claim(*said)
    except (signing.BadSignature, TypeError, ValueError):
        owner = None
    if owner != [project.pk, labeler.pk]:
        raise ForeignClaim(gettext("This form was not made for you. Reload the page and answer there."))
    return claim._replace(claim_token=claim.claim_token and UUID(claim.claim_token))
