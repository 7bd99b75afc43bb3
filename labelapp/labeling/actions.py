"""What a labeler can do. Every judgment made here is a new row; the database refuses to change one."""

from collections.abc import Sequence
from contextlib import nullcontext
from functools import lru_cache
from typing import Any
from uuid import UUID, uuid4

from django.contrib.postgres.functions import RandomUUID
from django.db import IntegrityError, transaction
from django.db.models.functions import Now
from django.utils.translation import gettext

from labelapp.labeling.answers import (
    Answer,
    as_lists,
    as_stored,
    body_hash,
    by_position,
    check_answer,
    located,
)
from labelapp.labeling.claims import Claim
from labelapp.labeling.protocol import Protocol, parse
from labelapp.labeling.quality import hooks as quality
from labelapp.labeling.queue import LEASE, claiming
from labelapp.labeling.refusals import (
    AlreadyJudged,
    ChangedBody,
    ForeignClaim,
    NothingToUndo,
    NotYours,
    Superseded,
)
from labelapp.labeling.rewrites import imply_pairs
from labelapp.labeling.skips import AGAIN
from labelapp.labeling.submit import submit
from labelapp.labeling.workdays import count_work
from labelapp.models import Comparison, Judgment, Project, ProtocolVersion, Slot

KEPT_TO_REVISE = 20


@lru_cache(maxsize=256)
def protocol_of(protocol_id: int) -> Protocol:
    """What a protocol version asks. The database refuses to change one, so it is read once a process."""
    return parse(ProtocolVersion.objects.get(pk=protocol_id).definition)


def judge(
    *,
    claim: Claim,
    labeler,
    submission_id: UUID,
    answer: Answer,
    active_seconds: float | None = None,
    seen: Sequence[float] = (),
    project: Project | None = None,
) -> Judgment:
    """Store one answer, given as the labeler saw it; a replay of the same submission returns the stored row.

    An answer that comes after the slot went to somebody else is kept as surplus.

    Args:
        claim: the hand-out that is answered. A slot that has been handed on no longer knows it, so whoever lets people
            in must have made sure that it was theirs (claims.py signs it).
        seen: the share of each response, by place, that was on screen.
        project: whose rules say what follows (quality/hooks.py); without it, nothing does.

    Raises:
        NotAnAnswer: the protocol does not know it. AlreadyJudged: undo comes first.
        ChangedBody: the submission id is known with another answer. ForeignClaim: the labeler holds the slot under a
            newer claim, made in another tab.
    """
    body = body_hash(answer, slot=claim.slot_id, labeler=labeler.pk)
    row = _row(claim, answer, active_seconds, seen) | {"submission_id": submission_id, "body_hash": body}
    return claiming(lambda: _store(claim, labeler, row, project))


def _store(claim: Claim, labeler, row: dict[str, Any], project: Project | None) -> Judgment:
    """Store the answer and what follows from it, or return what is stored under its submission id already."""
    # Only a rewrite can be refused after it is stored; a savepoint for every answer would cost two round trips.
    with transaction.atomic() if row["rewrite"] else nullcontext():
        judgment = submit(claim, labeler, row)
        if judgment is None:
            if stored := _replay(row["submission_id"], row["body_hash"]):
                return stored
            judgment = _store_late(claim, labeler, row)
        if judgment.replaces_id and judgment.purpose in AGAIN:
            _withdraw_implied(judgment.replaces)
        imply_pairs(judgment)
        quality.after_judgment(judgment, project)
        return judgment


def _row(claim: Claim, answer: Answer, active_seconds: float | None, seen: Sequence[float]) -> dict[str, Any]:
    """The answer as columns of a judgment. Raises NotAnAnswer."""
    order = claim.display_order
    check_answer(answer, size=len(order), protocol=protocol_of(claim.protocol_id))
    if answer.spans:
        texts = [completion.text for completion in Comparison(pk=claim.comparison_id).ordered_completions()]
        answer = Answer(**{**vars(answer), "spans": located(answer.spans, [texts[position] for position in order])})
    kept = as_stored(answer, order)
    return {
        "strength": kept.strength,
        "ranking": as_lists(kept.ranking),
        "both_bad": kept.both_bad,
        "unrankable": list(kept.unrankable),
        "ratings": {key: list(values) for key, values in kept.ratings.items()},
        "safety": list(kept.safety),
        "spans": [{"position": span.pop("place"), **span} for span in map(dict, kept.spans)],
        "reasons": list(kept.reasons),
        "rationale": kept.rationale,
        "rewrite": kept.rewrite,
        "rewrite_of": kept.rewrite_of,
        "display_order": order,
        "guideline_id": claim.guideline_id,
        "protocol_id": claim.protocol_id,
        "consent_id": claim.consent_id,
        "active_seconds": active_seconds,
        "seen": list(by_position(tuple(seen), order)) if len(seen) == len(order) else [],
    }


def _replay(submission_id: UUID, body: str) -> Judgment | None:
    stored = Judgment.objects.filter(submission_id=submission_id).first()
    if stored and stored.body_hash != body:
        raise ChangedBody(
            gettext(
                "Submission %(submission_id)s is saved already with another answer. Undo it and judge again to "
                "change it."
            ) % {"submission_id": submission_id}
        )
    return stored


def _store_late(claim: Claim, labeler, row: dict[str, Any]) -> Judgment:
    """Keep an answer whose slot is taken: beside the others, as surplus."""
    slot = Slot.objects.select_for_update().get(pk=claim.slot_id)
    previous = Judgment.objects.filter(comparison=slot.comparison_id, labeler=labeler).order_by("-pk").first()
    if previous and not previous.withdrawn:
        raise AlreadyJudged(
            gettext("You judged this one already (#%(previous)s). Undo that first to change it.")
            % {"previous": previous.pk}
        )
    if slot.state == Slot.State.LEASED and slot.labeler_id == labeler.pk:
        raise ForeignClaim(
            gettext("You hold item %(comparison_id)s in another tab now. Reload the page and answer there.")
            % {"comparison_id": slot.comparison_id}
        )
    judgment = Judgment.objects.create(
        **row, slot=slot, comparison_id=slot.comparison_id, labeler=labeler, replaces=previous,
        surplus=slot.labeler_id != labeler.pk,
    )  # fmt: skip
    judgment.purpose, judgment.project_id = slot.purpose, slot.project_id
    return judgment


def undo_last(*, project: Project, labeler) -> Slot | None:
    """Withdraw the labeler's last judgment in the project and hand its slot back to them.

    Returns None where the judgment was surplus: its slot is somebody else's. Raises NothingToUndo.
    """
    try:
        with transaction.atomic():
            last = last_judgment(project=project, labeler=labeler)
            if last is None or last.withdrawn:
                raise NothingToUndo(
                    gettext("There is no judgment of yours to undo; only the last one can be undone.")
                )
            lock_judgment(last)
            if newer := Judgment.objects.filter(replaces=last).first():
                withdrawn = gettext("Judgment #%(last)s has been withdrawn. There is nothing to undo.")
                corrected = gettext(
                    "Judgment #%(last)s was corrected by a reviewer: theirs counts now. There is nothing to undo."
                )
                raise NothingToUndo((withdrawn if newer.withdrawn else corrected) % {"last": last.pk})
            _withdraw(last)
            quality.after_undo(last)
            return last.slot_id and _hand_back(last.slot_id, project, labeler)
    except IntegrityError as error:
        raise NothingToUndo(gettext("Judgment #%(last)s is being undone already.") % {"last": last.pk}) from error


def own_judgments(*, project: Project, labeler):
    """What this person said in the project, newest first; not what follows from rewrites, nor corrections of others."""
    mine = Judgment.objects.filter(labeler=labeler, comparison__project=project, implied_by=None, correction_of=None)
    return mine.order_by("-created_at", "-pk")


def last_judgment(*, project: Project, labeler) -> Judgment | None:
    return own_judgments(project=project, labeler=labeler).first()


def lock_judgment(judgment: Judgment) -> None:
    """Be the only one to replace or review it until the transaction ends.

    Without this, of two who replace it at once each may wait for the other: one for the index, one for the row.
    """
    Judgment.objects.select_for_update().only("pk").get(pk=judgment.pk)


def _withdraw(judgment: Judgment) -> Judgment:
    """A withdrawal of the judgment, and of every pair that follows from its rewrite."""
    _withdraw_implied(judgment)
    return Judgment.objects.create(
        withdrawn=True,
        replaces=judgment,
        comparison_id=judgment.comparison_id,
        slot_id=judgment.slot_id,
        labeler_id=judgment.labeler_id,
        submission_id=uuid4(),
        body_hash=body_hash(Answer(), withdraws=judgment.pk),
        display_order=judgment.display_order,
        protocol_id=judgment.protocol_id,
        guideline_id=judgment.guideline_id,
        consent_id=judgment.consent_id,
        implied_by_id=judgment.implied_by_id,
        surplus=judgment.surplus,
    )


def _withdraw_implied(judgment: Judgment) -> None:
    for implied in judgment.implies.filter(replaced_by=None, withdrawn=False):
        _withdraw(implied)


def _hand_back(slot_id: int, project: Project, labeler) -> Slot | None:
    mine = Slot.objects.filter(pk=slot_id, labeler=labeler, state=Slot.State.DONE)
    if not mine.update(state=Slot.State.LEASED, lease_until=Now() + LEASE, claim_token=RandomUUID()):
        return None
    count_work(project=project, labeler=labeler, judged=-1)
    return Slot.objects.get(pk=slot_id)


def revisable(*, project: Project, labeler) -> list[Judgment]:
    """The labeler's last 20 standing judgments, newest first."""
    standing = own_judgments(project=project, labeler=labeler).filter(replaced_by=None, withdrawn=False)
    return list(standing.select_related("comparison__prompt", "protocol")[:KEPT_TO_REVISE])


def revise(*, project: Project, labeler, judgment_id: int, submission_id: UUID, answer: Answer) -> Judgment:
    """Replace one of the labeler's last 20 judgments; both stay, the new one stands.

    Raises NotYours, NotAnAnswer, ChangedBody; Superseded where it was replaced meanwhile.
    """
    body = body_hash(answer, revises=judgment_id, labeler=labeler.pk)
    if stored := _replay(submission_id, body):
        return stored
    old = next((row for row in revisable(project=project, labeler=labeler) if row.pk == judgment_id), None)
    if old is None:
        raise NotYours(
            gettext(
                "Judgment #%(judgment_id)s is not among your last %(KEPT_TO_REVISE)s; only those can be "
                "changed."
            ) % {"judgment_id": judgment_id, "KEPT_TO_REVISE": KEPT_TO_REVISE}
        )
    return replace_judgment(old, labeler=labeler, submission_id=submission_id, body=body, answer=answer)


def replace_judgment(old: Judgment, *, labeler, submission_id: UUID, body: str, answer: Answer) -> Judgment:
    """A new judgment in the place of an old one, as it was shown then. Raises NotAnAnswer and Superseded."""
    claim = Claim(
        old.slot_id, old.comparison_id, None, old.display_order, old.protocol_id, old.guideline_id, old.consent_id
    )
    row = _row(claim, answer, None, ()) | {"submission_id": submission_id, "body_hash": body, "seen": old.seen}
    try:
        with transaction.atomic():
            lock_judgment(old)
            _withdraw_implied(old)
            new = Judgment.objects.create(
                **row, slot_id=old.slot_id, comparison_id=old.comparison_id, labeler=labeler, replaces=old,
                surplus=old.surplus,
            )  # fmt: skip
            imply_pairs(new)
            quality.after_revision(new)
            return new
    except IntegrityError as error:
        if stored := _replay(submission_id, body):
            return stored
        raise Superseded(
            gettext("Judgment #%(old)s has been replaced meanwhile. Look at the newer one first.") % {"old": old.pk}
        ) from error
