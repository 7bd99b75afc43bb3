"""Claims, fences, the reconciler: rows and the database's clock, no trainer."""

import threading
from datetime import timedelta

import pytest
from django.db import IntegrityError, connection, transaction
from django.db.models.functions import Now

from labelapp.models import Round, RoundEvent
from labelapp.rounds import heartbeat, lease
from labelapp.rounds.actions import RoundIsOver, request_cancel
from labelapp.rounds.trainer import Trainer
from tests.factories import make_project
from tests.rounds.material import queue_reward_round

pytestmark = pytest.mark.django_db


@pytest.fixture
def round():
    return queue_reward_round(make_project())


def expire(round: Round) -> None:
    Round.objects.filter(pk=round.pk).update(lease_until=Now() - timedelta(seconds=1))


def test_a_queued_round_is_claimed_once(round):
    first = lease.claim(round.pk, owner="one")
    assert first.token == 1
    assert lease.claim(round.pk, owner="two") is None


@pytest.mark.django_db(transaction=True)
def test_of_eight_supervisors_at_once_one_gets_the_round():
    round, claims = queue_reward_round(make_project()), []
    gate = threading.Barrier(8)

    def run():
        gate.wait()
        claims.append(lease.claim(round.pk, owner="racer"))
        connection.close()

    threads = [threading.Thread(target=run) for _ in range(8)]
    [thread.start() for thread in threads]
    [thread.join() for thread in threads]
    assert sum(claim is not None for claim in claims) == 1


def test_a_lease_that_ran_out_may_be_claimed_with_a_larger_token(round):
    lease.claim(round.pk, owner="one")
    expire(round)
    assert lease.claim(round.pk, owner="two").token == 2


def test_a_beat_prolongs_the_lease_of_its_own_token_only(round):
    old = lease.claim(round.pk, owner="one")
    expire(round)
    new = lease.claim(round.pk, owner="two")
    assert not lease.beat(old)
    assert lease.beat(new)
    assert Round.objects.filter(pk=round.pk, lease_until__gt=Now() + timedelta(seconds=25)).exists()


def test_a_write_with_an_old_token_is_refused(round):
    old = lease.claim(round.pk, owner="one")
    expire(round)
    lease.claim(round.pk, owner="two")
    with pytest.raises(lease.LeaseLost), lease.fenced(old) as mine:
        lease.close(mine, "done")
    round.refresh_from_db()
    assert round.state == "running"


def test_the_reconciler_queues_a_round_whose_worker_was_lost(round):
    lease.claim(round.pk, owner="one")
    expire(round)
    lease.reconcile()
    round.refresh_from_db()
    assert (round.state, round.attempt) == ("queued", 1)
    assert round.events.last().kind == "lease_expired"


def test_the_reconciler_leaves_a_living_round_alone(round):
    lease.claim(round.pk, owner="one")
    assert lease.reconcile() == {"lost": 0, "rung": 0}


def test_a_round_that_was_lost_five_times_fails(round):
    lease.claim(round.pk, owner="one")
    Round.objects.filter(pk=round.pk).update(attempt=5)
    expire(round)
    lease.reconcile()
    round.refresh_from_db()
    assert (round.state, round.error_code) == ("failed", "lost")
    assert "5 times" in round.error


def test_a_lost_round_that_was_to_be_cancelled_is_cancelled(round):
    lease.claim(round.pk, owner="one")
    request_cancel(round=round)
    expire(round)
    lease.reconcile()
    round.refresh_from_db()
    assert round.state == "cancelled"


def test_a_round_given_back_that_was_to_be_cancelled_waits_for_no_other_worker(round):
    held = lease.claim(round.pk, owner="one")
    request_cancel(round=round)
    lease.release(held, reason="the worker is shutting down")
    round.refresh_from_db()
    assert round.state == "cancelled" and round.finished_at


def test_a_lost_message_is_rung_again(round, django_capture_on_commit_callbacks):
    Round.objects.filter(pk=round.pk).update(rung_at=Now() - timedelta(seconds=11))
    with django_capture_on_commit_callbacks() as rings:
        assert lease.reconcile()["rung"] == 1
    assert len(rings) == 1
    with django_capture_on_commit_callbacks() as rings:
        assert lease.reconcile()["rung"] == 0
    assert not rings


def test_a_queued_round_is_cancelled_at_once_and_a_second_cancel_is_refused(round):
    assert request_cancel(round=round).state == "cancelled"
    with pytest.raises(RoundIsOver):
        request_cancel(round=round)


def test_cancelling_a_running_round_twice_is_one_request(round):
    lease.claim(round.pk, owner="one")
    request_cancel(round=round)
    request_cancel(round=round)
    assert round.events.filter(kind="cancel_requested").count() == 1


def test_a_running_round_without_a_lease_is_refused_by_the_database(round):
    with pytest.raises(IntegrityError), transaction.atomic():
        Round.objects.filter(pk=round.pk).update(state="running", lease_until=None)


def test_an_event_cannot_be_rewritten(round):
    with pytest.raises(IntegrityError), transaction.atomic():
        RoundEvent.objects.filter(round=round).update(kind="done")


def test_without_a_beat_the_watchdog_kills_the_trainer(round, monkeypatch, tmp_path):
    import subprocess

    monkeypatch.setattr(heartbeat, "FENCE_SECONDS", 0.1)
    held = lease.claim(round.pk, owner="one")
    process = subprocess.Popen(["sleep", "600"], start_new_session=True)
    with heartbeat.Heartbeat(held) as heart:
        heart.guard(Trainer(process, tmp_path))
        process.wait(30)
        assert heart.lost.is_set()
    assert process.returncode == -9
