"""Whose round it is: claims, heartbeats, fenced writes, and the reconciler. Only the database's clock counts.

A claim raises the round's token; every write of its supervisor matches that token. A supervisor that was believed dead
and comes back matches no row any more and stops.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import NamedTuple

from django.db import connection, transaction
from django.db.models import Case, DurationField, F, Q, When
from django.db.models.functions import Coalesce, Now

from labelapp.celery import ring
from labelapp.models import Round, RoundEvent, Stage
from labelapp.rounds import devices
from labelapp.rounds.actions import SUPERVISE
from labelapp.rounds.budget import book_round
from labelapp.rounds.notices.outbox import announce

LEASE = timedelta(seconds=30)
BEAT_SECONDS = 5
FENCE_SECONDS = 20  # without a beat the supervisor kills its own trainer, well before the lease ends
RING_AGAIN_AFTER = timedelta(seconds=10)
RECONCILER_LOCK = 0x726F756E64  # "round"; one reconciler at a time, whoever comes second has nothing to do
LOST = "The worker or its trainer was lost {attempts} times in this round. Its log says how far it came; launch again."

WAITS = "waits_for_devices"
State = Round.State
HELD = Q(state=State.RUNNING, lease_until__gt=Now())  # after its end nobody can say how long the worker still worked
HELD_TIME = Case(
    When(HELD, then=F("device_time") + (Now() - F("heartbeat_at"))), default=F("device_time"),
    output_field=DurationField(),
)  # fmt: skip


class LeaseLost(Exception):
    """Another supervisor claimed the round, or it ended; what this one still knows must not be written."""


class Claim(NamedTuple):
    """One supervisor's hold on one round."""

    round_id: int
    token: int


def claim(round_id: int, *, owner: str) -> Claim | None:
    """Take a queued round, or one whose lease ran out, with the devices that it asks for.

    None when it is somebody else's or at its end, or when too few devices are free, which its events then say.
    """
    try:
        with transaction.atomic():
            return take(round_id, owner)
    except devices.NoDevice as lack:
        with transaction.atomic():
            round = Round.objects.select_for_update(no_key=True, of=("self",)).get(pk=round_id)
            if round.state == State.QUEUED and round.events.last().kind != WAITS:
                record(round, WAITS, **lack.detail)
        return None


def take(round_id: int, owner: str) -> Claim | None:
    """Claim it by one statement, in a transaction. Raises devices.NoDevice, and then nothing must be kept of it."""
    free = Q(state=State.QUEUED) | Q(state=State.RUNNING, lease_until__lt=Now())
    taken = Round.objects.filter(free, pk=round_id, attempt__lt=F("max_attempts")).update(
        state=State.RUNNING,
        token=F("token") + 1,
        attempt=F("attempt") + 1,
        owner=owner,
        lease_until=Now() + LEASE,
        heartbeat_at=Now(),
        started_at=Coalesce(F("started_at"), Now()),
    )
    if not taken:
        return None
    round = Round.objects.get(pk=round_id)
    devices.reserve(round)
    record(round, "claimed", owner=owner, attempt=round.attempt)
    return Claim(round.pk, round.token)


def beat(held: Claim) -> bool:
    """Prolong the lease; False when the round is no longer ours."""
    return bool(mine(held).update(lease_until=Now() + LEASE, device_time=HELD_TIME, heartbeat_at=Now()))


def mine(held: Claim):
    return Round.objects.filter(pk=held.round_id, token=held.token, state=State.RUNNING)


@contextmanager
def fenced(held: Claim) -> Iterator[Round]:
    """A transaction in which the round is ours and stays so. Raises LeaseLost before anything is written."""
    with transaction.atomic():
        round = mine(held).select_for_update(no_key=True).first()
        if round is None:
            raise LeaseLost(f"round {held.round_id} is no longer held with token {held.token}")
        yield round


def record(round: Round, kind: str, *, by=None, **detail) -> RoundEvent:
    """Write the transition's event; call it in the transaction of the transition."""
    return RoundEvent.objects.create(round=round, kind=kind, by=by, detail=detail)


def close(round: Round, state: str, *, code: str = "", error: str = "") -> None:
    """End a round inside a fenced transaction: its state, its unfinished stages and the event."""
    Round.objects.filter(pk=round.pk).update(
        state=state, error_code=code, error=error, finished_at=Now(), lease_until=None, device_time=HELD_TIME
    )
    devices.release(round)
    unfinished = {State.FAILED: Stage.State.FAILED}.get(state, Stage.State.CANCELLED)
    round.stages.filter(state=Stage.State.RUNNING).update(state=unfinished, finished_at=Now())
    round.stages.filter(state=Stage.State.WAITING).update(state=Stage.State.CANCELLED)
    book_round(round)
    announce(record(round, state, **({"code": code, "error": error} if code else {})))


def release(held: Claim, *, reason: str, counts: bool = False) -> None:
    """Give the round back to the queue, to be resumed. One to be cancelled ends here, and so does a hopeless one.

    counts: whether it was an attempt.
    """
    with fenced(held) as round:
        if counts or round.cancel_requested_at:
            return give_up_or_requeue(round, "released", reason=reason)
        requeue(round, "released", reason=reason)
        Round.objects.filter(pk=round.pk).update(attempt=F("attempt") - 1)


def retry(held: Claim, *, code: str, reason: str) -> None:
    """Give the round back to the queue, to be resumed: the attempt counts, and after the last one the round fails."""
    with fenced(held) as round:
        if round.cancel_requested_at:
            close(round, State.CANCELLED)
        elif round.attempt < round.max_attempts:
            requeue(round, "released", reason=reason)
        else:
            close(round, State.FAILED, code=code, error=reason)


def requeue(round: Round, kind: str, **detail) -> None:
    Round.objects.filter(pk=round.pk).update(
        state=State.QUEUED, lease_until=None, owner="", rung_at=Now(), device_time=HELD_TIME
    )
    devices.release(round)
    round.stages.filter(state=Stage.State.RUNNING).update(state=Stage.State.WAITING)
    record(round, kind, **detail)
    ring(SUPERVISE, round.pk)


@transaction.atomic
def reconcile() -> dict[str, int]:
    """Return lost rounds to the queue, end the hopeless, ring again for the unheard. Safe to run anywhere, twice."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_try_advisory_xact_lock(%s)", [RECONCILER_LOCK])
        if not cursor.fetchone()[0]:
            return {}
    expired = Round.objects.filter(state=State.RUNNING, lease_until__lt=Now())
    lost = list(expired.select_for_update(no_key=True, skip_locked=True))
    for round in lost:
        give_up_or_requeue(round, "lease_expired", owner=round.owner, attempt=round.attempt)
    unheard = Q(rung_at=None) | Q(rung_at__lt=Now() - RING_AGAIN_AFTER)
    waiting = Round.objects.filter(unheard, state=State.QUEUED).select_for_update(no_key=True, skip_locked=True)
    rung = [round.pk for round in waiting]
    Round.objects.filter(pk__in=rung).update(rung_at=Now())
    for pk in rung:
        ring(SUPERVISE, pk)
    return {"lost": len(lost), "rung": len(rung)}


def give_up_or_requeue(round: Round, kind: str, **detail) -> None:
    """End a round that lost its worker or trainer if it was to be cancelled or has no attempts left; else queue it."""
    if round.cancel_requested_at:
        close(round, State.CANCELLED)
    elif round.attempt < round.max_attempts:
        requeue(round, kind, **detail)
    else:
        close(round, State.FAILED, code="lost", error=LOST.format(attempts=round.attempt))
