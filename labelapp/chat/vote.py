"""From a vote in a chat to the rows that every judgment has: prompt, completions, comparison, slot, judgment."""

import random
from collections.abc import Sequence
from statistics import fmean
from uuid import UUID, uuid4

from django.db import transaction
from django.db.models import Max
from django.db.models.functions import Now
from django.utils.translation import gettext as _

from labelapp.chat.actions import State, own_turn, sides_of
from labelapp.chat.refusals import NotShown, OutOfStep
from labelapp.datasets.formats import default_group
from labelapp.labeling.actions import judge, protocol_of
from labelapp.labeling.answers import Answer, check_answer
from labelapp.labeling.claims import Claim, claim_of
from labelapp.labeling.protocol import Protocol
from labelapp.labeling.queue import LEASE, create_comparisons
from labelapp.labeling.refusals import AlreadyJudged
from labelapp.models import (
    ChatSide,
    ChatTurn,
    Comparison,
    Completion,
    Judgment,
    Membership,
    Prompt,
    Slot,
    message_hash,
    text_hash,
)


def vote(
    *,
    turn_id: int,
    membership: Membership,
    submission_id: UUID,
    answer: Answer,
    seen: Sequence[int],
    active_seconds: float | None = None,
) -> ChatTurn:
    """Store what the labeler says of a turn's answers, finished or not; generation ends with it.

    Each answer is cut to what had been on screen, and that is the completion. A replay returns the stored turn.

    Args:
        seen: characters on screen, by place.

    Raises:
        What judge() does. NotShown: an answer of which nothing was on screen, or that read like another one. OutOfStep.
    """
    with transaction.atomic():
        turn = own_turn(turn_id, membership.user)
        about = {"labeler": turn.labeler, "submission_id": submission_id, "answer": answer}
        if turn.judgment_id:
            judge(claim=_claim(turn, turn.slot, membership), **about)
            return turn
        if turn.state not in (State.RUNNING, State.READY):
            raise OutOfStep(_("There is nothing to judge here now. Look at where the conversation is."))
        sides = _cut(sides_of(turn), seen)
        check_answer(answer, size=len(sides), protocol=protocol_of(turn.protocol_id))
        slot = _slot(turn, sides)
        judgment = judge(claim=_claim(turn, slot, membership), active_seconds=active_seconds, **about)
        return _judged(turn, sides, slot, judgment, continuation(answer, protocol_of(turn.protocol_id), len(sides)))


def continuation(answer: Answer, protocol: Protocol, size: int) -> int | None:
    """The place of the answer to go on with: the better one, or the one rated highest; None where none stands out."""
    if answer.strength:
        return 0 if answer.strength < 0 else 1
    scores = [_score(answer, protocol, place) for place in range(size)]
    best = [place for place, score in enumerate(scores) if score is not None and score == max(filter(_known, scores))]
    return best[0] if protocol.form == "rating" and len(best) == 1 else None


def _known(score: float | None) -> bool:
    return score is not None


def _score(answer: Answer, protocol: Protocol, place: int) -> float | None:
    """The mean of what scales say of one answer, each from 0 to 1; flags say nothing of better or worse."""
    said = [
        (values[place] - criterion.values[0]) / (criterion.values[-1] - criterion.values[0])
        for criterion in protocol.criteria
        if criterion.kind != "flag" and (values := answer.ratings.get(criterion.key)) and values[place] is not None
    ]
    return round(fmean(said), 9) if said else None


def _cut(sides: list[ChatSide], seen: Sequence[int]) -> list[ChatSide]:
    """The answers as they were on screen. Raises NotShown."""
    if len(seen) != len(sides):
        raise NotShown(_("It is not known how much of the answers you saw. Reload the page and judge again."))
    for side, characters in zip(sides, seen, strict=True):
        side.seen = min(max(characters, 0), len(side.text))
        side.sampling |= {"complete": bool(side.finish) and side.seen == len(side.text), "generated": len(side.text)}
        side.text = side.text[: side.seen]
        if not side.text.strip():
            nothing = _("Nothing of response %(letter)s was shown yet. Wait for its first words.")
            raise NotShown(nothing % {"letter": side.letter})
    if len({side.text for side in sides}) < len(sides):
        raise NotShown(_("Two responses read the same so far. Wait until they differ."))
    return sides


def _slot(turn: ChatTurn, sides: list[ChatSide]) -> Slot:
    """The comparison of what was shown, and a slot of it that the labeler holds.

    Positions follow the hash of the text, an order that knows nothing of who wrote what; places are as on the screen.
    """
    prompt = _prompt(turn)
    for side in sides:
        side.completion = _completion(prompt, turn, side)
    ordered = sorted(sides, key=lambda side: side.completion.content_hash)
    (comparison,) = create_comparisons(
        project=prompt.project, items=[(prompt, [side.completion for side in ordered])], origin=Comparison.Origin.CHAT,
        overlap=1, propensity=turn.propensity, slots=False, checked=False,
    )  # fmt: skip
    if not comparison.slots.exists():  # it is new; what is asked is what was asked in this turn
        Comparison.objects.filter(pk=comparison.pk).update(protocol=turn.protocol_id)
    if comparison.slots.filter(labeler=turn.labeler_id, state__in=[Slot.State.LEASED, Slot.State.DONE]).exists():
        raise AlreadyJudged(_("You judged just these answers before; that stands. End this conversation to go on."))
    last = comparison.slots.aggregate(last=Max("number"))["last"]
    return Slot.objects.create(
        comparison=comparison,
        project=prompt.project,
        number=0 if last is None else last + 1,
        shuffle_key=random.randrange(-(2**31), 2**31),
        state=Slot.State.LEASED,
        labeler=turn.labeler,
        lease_until=Now() + LEASE,
        claim_token=uuid4(),
        display_order=[ordered.index(side) for side in sides],
    )


def _prompt(turn: ChatTurn) -> Prompt:
    """The turns so far; the same turns are the same row, whoever wrote them."""
    about = {"messages": turn.messages, "group": default_group(turn.messages), "source": "chat"}
    about["metadata"] = {"conversation": turn.conversation_id, "turn": turn.number}
    project = turn.conversation.project
    return Prompt.objects.get_or_create(project=project, content_hash=message_hash(turn.messages), defaults=about)[0]


def _completion(prompt: Prompt, turn: ChatTurn, side: ChatSide) -> Completion:
    sampling = {**side.sampling, "finish": side.finish or "vote", "seen": side.seen}
    if side.masked:
        sampling["masked"] = True
    return Completion.objects.get_or_create(
        prompt=prompt,
        content_hash=text_hash(side.text),
        version=side.version,
        author=side.upstream.name if side.upstream else "",
        defaults={"text": side.text, "sampling": sampling},
    )[0]


def _claim(turn: ChatTurn, slot: Slot, membership: Membership) -> Claim:
    shown = {"protocol_id": turn.protocol_id, "guideline_id": turn.guideline_id}
    return claim_of(slot, consent_id=membership.consent_id, **shown)


def _judged(
    turn: ChatTurn, sides: list[ChatSide], slot: Slot, judgment: Judgment, continued: int | None
) -> ChatTurn:
    ChatSide.objects.bulk_update(sides, ["text", "seen", "completion", "sampling"])
    turn.state, turn.runner, turn.lease_until = State.JUDGED, None, None
    turn.slot, turn.judgment, turn.continued = slot, judgment, continued
    turn.save(update_fields=["state", "runner", "lease_until", "slot", "judgment", "continued"])
    return turn
