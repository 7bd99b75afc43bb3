"""What a labeler can do. Every judgment made here is a new row; the database refuses to change one."""

import json
from typing import NamedTuple
from uuid import UUID, uuid4

from django.contrib.postgres.functions import RandomUUID
from django.db import IntegrityError, transaction
from django.db.models.functions import Now

from labelapp.labeling.answers import Answer, Tiers, as_lists, as_stored, body_hash, check_answer
from labelapp.labeling.queue import LEASE
from labelapp.labeling.refusals import AlreadyJudged, ChangedBody, ForeignClaim, NothingToUndo
from labelapp.models import GuidelineVersion, Judgment, Project, Slot

# The usual submit is this statement and an INSERT. A lease that has run out does not matter while nobody took the slot.
TAKE = """
UPDATE labelapp_slot slot SET state = 'done', labeler_id = %(labeler)s, lease_until = NULL, claim_token = %(token)s
FROM labelapp_comparison comparison
  JOIN labelapp_protocolversion protocol ON protocol.id = comparison.protocol_id
  LEFT JOIN LATERAL (
    SELECT mine.id, mine.withdrawn FROM labelapp_judgment mine
    WHERE mine.comparison_id = comparison.id AND mine.labeler_id = %(labeler)s ORDER BY mine.id DESC LIMIT 1
  ) previous ON true
WHERE slot.id = %(slot)s AND comparison.id = slot.comparison_id AND COALESCE(previous.withdrawn, true)
  AND (slot.state = 'open'
       OR (slot.state = 'leased' AND slot.labeler_id = %(labeler)s AND slot.claim_token = %(token)s))
RETURNING slot.*, comparison.protocol_id, protocol.definition, previous.id AS previous_id,
  (SELECT guideline.id FROM labelapp_guidelineversion guideline WHERE guideline.project_id = slot.project_id
   ORDER BY guideline.number DESC LIMIT 1) AS guideline_id
"""


class Place(NamedTuple):
    """The slot that an answer is for, and what the judgment has to cite."""

    slot: Slot
    protocol_id: int
    definition: dict
    guideline_id: int | None
    previous_id: int | None
    surplus: bool


def judge(
    *,
    slot_id: int,
    labeler,
    claim_token: UUID,
    submission_id: UUID,
    strength: int | None = None,
    ranking: Tiers | None = None,
    both_bad: bool = False,
    rationale: str = "",
    active_seconds: float | None = None,
    guideline_id: int | None = None,
) -> Judgment:
    """Store one answer, given as the labeler saw it; a replay of the same submission returns the stored row.

    An answer that comes after the slot went to somebody else is kept as surplus.

    Args:
        claim_token: of the hand-out. A slot that has been handed on no longer knows it, so whoever lets people in must
            have made sure that it was theirs (forms.py signs it).
        guideline_id: the version that was shown; the project's latest by default.

    Raises:
        NotAnAnswer: the protocol does not know it. AlreadyJudged: undo comes first.
        ChangedBody: the submission id is known with another answer. ForeignClaim: the labeler holds the slot under a
            newer claim, made in another tab.
    """
    answer = Answer(strength, None if ranking is None else tuple(map(tuple, ranking)), both_bad)
    body = body_hash(answer, slot=slot_id, labeler=labeler.pk, rationale=rationale)
    try:
        with transaction.atomic():
            place = _take(slot_id, labeler, claim_token)
            if place is None:
                if stored := _replay(submission_id, body):
                    return stored
                place = _late(slot_id, labeler)
            check_answer(answer, size=len(place.slot.display_order), protocol=place.definition)
            kept = as_stored(answer, place.slot.display_order)
            return Judgment.objects.create(
                slot=place.slot,
                comparison_id=place.slot.comparison_id,
                labeler=labeler,
                submission_id=submission_id,
                body_hash=body,
                strength=kept.strength,
                ranking=as_lists(kept.ranking),
                both_bad=kept.both_bad,
                rationale=rationale,
                active_seconds=active_seconds,
                display_order=place.slot.display_order,
                protocol_id=place.protocol_id,
                guideline_id=guideline_id or place.guideline_id,
                replaces_id=place.previous_id,
                surplus=place.surplus,
            )
    except IntegrityError:
        if stored := _replay(submission_id, body):
            return stored
        raise


def _take(slot_id: int, labeler, claim_token) -> Place | None:
    """Close the slot if it is the labeler's, or nobody's; None if it went to somebody else or is done."""
    values = {"slot": slot_id, "labeler": labeler.pk, "token": claim_token}
    for slot in Slot.objects.raw(TAKE, values):
        definition = json.loads(slot.definition)  # a raw query leaves JSON as text
        return Place(slot, slot.protocol_id, definition, slot.guideline_id, slot.previous_id, surplus=False)
    return None


def _replay(submission_id: UUID, body: str) -> Judgment | None:
    stored = Judgment.objects.filter(submission_id=submission_id).first()
    if stored and stored.body_hash != body:
        raise ChangedBody(
            f"Submission {submission_id} is saved already with another answer. Undo it and judge again to change it."
        )
    return stored


def _late(slot_id: int, labeler) -> Place:
    """Where an answer goes whose slot is taken: beside the others, as surplus."""
    slot = Slot.objects.select_for_update(of=["self"]).select_related("comparison__protocol").get(pk=slot_id)
    previous = Judgment.objects.filter(comparison=slot.comparison_id, labeler=labeler).order_by("-pk").first()
    if previous and not previous.withdrawn:
        raise AlreadyJudged(f"You judged this one already (#{previous.pk}). Undo that first to change it.")
    if slot.state == Slot.State.LEASED and slot.labeler_id == labeler.pk:
        raise ForeignClaim(f"You hold item {slot.comparison_id} in another tab now. Reload the page and answer there.")
    guideline = GuidelineVersion.objects.filter(project=slot.project_id).order_by("-number").first()
    protocol = slot.comparison.protocol
    return Place(
        slot,
        protocol.pk,
        protocol.definition,
        guideline and guideline.pk,
        previous and previous.pk,
        surplus=slot.labeler_id != labeler.pk,
    )


def undo_last(*, project: Project, labeler) -> Slot | None:
    """Withdraw the labeler's last judgment in the project and hand its slot back to them.

    Returns None where the judgment was surplus: its slot is somebody else's. Raises NothingToUndo.
    """
    try:
        with transaction.atomic():
            last = last_judgment(project=project, labeler=labeler)
            if last is None or last.withdrawn:
                raise NothingToUndo("There is no judgment of yours to undo; only the last one can be undone.")
            _withdraw(last)
            return _hand_back(last.slot_id, labeler)
    except IntegrityError as error:
        raise NothingToUndo(f"Judgment #{last.pk} is being undone already.") from error


def last_judgment(*, project: Project, labeler) -> Judgment | None:
    mine = Judgment.objects.filter(labeler=labeler, comparison__project=project)
    return mine.order_by("-created_at", "-pk").first()


def _withdraw(judgment: Judgment) -> Judgment:
    submission = uuid4()
    return Judgment.objects.create(
        withdrawn=True,
        replaces=judgment,
        comparison_id=judgment.comparison_id,
        slot_id=judgment.slot_id,
        labeler_id=judgment.labeler_id,
        submission_id=submission,
        body_hash=body_hash(Answer(), withdraws=judgment.pk),
        display_order=judgment.display_order,
        protocol_id=judgment.protocol_id,
        guideline_id=judgment.guideline_id,
        surplus=judgment.surplus,
    )


def _hand_back(slot_id: int, labeler) -> Slot | None:
    mine = Slot.objects.filter(pk=slot_id, labeler=labeler, state=Slot.State.DONE)
    if not mine.update(state=Slot.State.LEASED, lease_until=Now() + LEASE, claim_token=RandomUUID()):
        return None
    return Slot.objects.get(pk=slot_id)
