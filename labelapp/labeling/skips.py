"""An item given back with a reason."""

from django.db import transaction
from django.utils.translation import gettext

from labelapp.labeling.claims import Claim
from labelapp.labeling.refusals import NotAnAnswer, NotYours
from labelapp.labeling.workdays import count_work
from labelapp.models import Draft, Project, Skip, Slot

AGAIN = (Slot.Purpose.REASK, Slot.Purpose.RETURNED)  # a judgment stands already


@transaction.atomic
def skip_item(*, project: Project, claim: Claim, labeler, reason: str, comment: str = "") -> Skip:
    """Give an item back for good, with the reason. Raises NotAnAnswer, and NotYours where it is not held any more."""
    if reason not in Skip.Reason.values:
        raise NotAnAnswer(gettext("%(reason)r is not a reason to skip; choose one of the list.") % {"reason": reason})
    held = Slot.objects.filter(pk=claim.slot_id, labeler=labeler, claim_token=claim.claim_token, state="leased")
    slot = held.select_for_update().first()
    if slot is None:
        raise NotYours(gettext("This item is not yours any more, so there is nothing to skip."))
    if slot.purpose == Slot.Purpose.QUIZ:
        raise NotAnAnswer(
            gettext("An item of the quiz cannot be skipped; choose the answer that you think is right.")
        )
    _give_back(slot)
    count_work(project=project, labeler=labeler, skipped=1)
    Draft.objects.filter(comparison=slot.comparison_id, labeler=labeler).delete()
    return Skip.objects.create(
        comparison_id=slot.comparison_id, project=project, labeler=labeler, reason=reason, comment=comment.strip()
    )


def _give_back(slot: Slot) -> None:
    """To everybody; but what is reserved is of use to nobody else, and what was answered before stays answered.

    Asked again, answered, undone and then skipped is not answered any more: the place is everybody's from then on.
    """
    free = {"labeler": None, "lease_until": None, "claim_token": None}
    if slot.purpose in AGAIN and _answered(slot):
        change = {"state": Slot.State.DONE, "lease_until": None}
    elif slot.purpose in (Slot.Purpose.WORK, *AGAIN):
        change = free | {"state": Slot.State.OPEN, "purpose": Slot.Purpose.WORK, "reserved_for": None, "note": ""}
    else:
        change = free | {"state": Slot.State.CLOSED}
    Slot.objects.filter(pk=slot.pk).update(**change)


def _answered(slot: Slot) -> bool:
    return slot.judgments.standing().filter(labeler=slot.labeler_id).exists()
