"""A round with a real worker and a real trainer, and everything that may happen to them."""

import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import psutil
import pytest
from django.db import connection
from django.db.models.functions import Now

from labelapp.celery import app
from labelapp.models import Round
from labelapp.rounds import lease
from labelapp.rounds.actions import SUPERVISE, request_cancel
from labelapp.rounds.supervise import supervise_round
from tests.factories import make_project
from tests.rounds.material import queue_reward_round
from tests.rounds.processes import PATIENCE, kill_group, step_of, wait_for, weights_by_hand, weights_of
from tests.servers import wait_until

pytestmark = pytest.mark.django_db(transaction=True)
services = pytest.mark.services  # what hangs on the broker or on the database's clock; the others on the trainer alone
ENDLESS = 100_000


def trainers(of: Round | None = None) -> list[psutil.Process]:
    """The living trainers of this process, or of a round wherever they run."""
    job = str(of.stages.get().output) if of else "job.json"
    found = [p for p in psutil.process_iter(["cmdline", "ppid"]) if job in " ".join(p.info["cmdline"] or [])]
    return [process for process in found if of or process.info["ppid"] == os.getpid()]


def supervise_in_thread(round: Round) -> threading.Thread:
    def run():
        try:
            supervise_round(round.pk)
        finally:
            connection.close()

    thread = threading.Thread(target=run)
    thread.start()
    return thread


@services
def test_a_round_runs_to_its_end_and_registers_its_version():
    round = queue_reward_round(make_project(), steps=4)

    supervise_round(round.pk)

    round.refresh_from_db()
    stage, version = round.stages.get(), round.versions.get()
    assert (round.state, stage.state, stage.step, stage.steps) == ("done", "done", 4, 4)
    assert [row.step for row in stage.metric_rows.all()] == [1, 2, 3, 4]
    assert version.name == f"reward-r1-{version.digest[:8]}"
    assert version.parent == round.parent and version.card["stage"] == "reward"
    assert [event.kind for event in round.events.all()] == [
        "launched", "claimed", "stage_started", "stage_done", "done"
    ]  # fmt: skip


@services
@pytest.mark.faults
def test_a_worker_killed_in_mid_stage_is_resumed_to_the_same_bits_and_ten_messages_are_one_attempt(
    celery_worker, tmp_path
):
    round = queue_reward_round(make_project(), steps=60)
    first = celery_worker("training")
    wait_until(lambda: step_of(round) >= 4, seconds=PATIENCE)
    kill_group(first)
    assert step_of(round) < 60
    wait_until(lambda: not trainers(of=round), what="the trainer's death with its worker")
    Round.objects.filter(pk=round.pk).update(lease_until=Now())  # its thirty seconds are over
    lease.reconcile()
    for _ in range(9):
        app.send_task(SUPERVISE, args=[round.pk])
    celery_worker("training")
    undisturbed = weights_by_hand(round, tmp_path)
    wait_for(round)

    assert (round.state, round.attempt, round.token) == ("done", 2, 2)
    assert round.stages.get().job["resume_from"]
    assert weights_of(round) == undisturbed
    assert [row.step for row in round.stages.get().metric_rows.all()] == list(range(1, 61))


@pytest.mark.faults
def test_a_cancelled_round_stops_its_trainer_and_ends_cancelled():
    round = queue_reward_round(make_project(), steps=ENDLESS)
    supervisor = supervise_in_thread(round)
    wait_until(lambda: step_of(round) >= 1, seconds=PATIENCE)

    request_cancel(round=round)
    supervisor.join(PATIENCE)

    round.refresh_from_db()
    assert (round.state, round.stages.get().state) == ("cancelled", "cancelled")
    assert not round.versions.exists()
    assert not trainers()


def test_a_round_on_two_devices_trains_and_its_cancellation_ends_every_rank():
    round = queue_reward_round(make_project(), steps=ENDLESS, devices=2)
    supervisor = supervise_in_thread(round)
    wait_until(lambda: step_of(round) >= 1, seconds=PATIENCE)
    (launcher,) = trainers()
    ranks = launcher.children()
    assert len(ranks) == round.stages.get().job["devices"] == 2

    request_cancel(round=round)
    supervisor.join(PATIENCE)

    round.refresh_from_db()
    assert (round.state, round.stages.get().state) == ("cancelled", "cancelled")
    wait_until(lambda: not any(rank.is_running() for rank in ranks), what="the end of both ranks")
    assert len(list(Path(round.stages.get().output, "state").iterdir())) == 2  # each saved its part


def test_a_rank_that_is_killed_fails_the_round_with_a_sentence_that_names_it():
    round = queue_reward_round(make_project(), steps=ENDLESS, devices=2)
    supervisor = supervise_in_thread(round)
    wait_until(lambda: step_of(round) >= 1, seconds=PATIENCE)
    (launcher,) = trainers()

    number = next(rank for rank in launcher.children() if rank.environ()["RANK"] == "1")
    os.kill(number.pid, signal.SIGKILL)
    supervisor.join(PATIENCE)

    round.refresh_from_db()
    assert (round.state, round.error_code) == ("failed", "rank_lost")
    assert "rank 1 of 2 was ended by SIGKILL" in round.error
    assert not launcher.is_running()


@services
@pytest.mark.faults
def test_a_worker_told_to_end_saves_and_gives_the_round_back_without_using_an_attempt(celery_worker):
    round = queue_reward_round(make_project(), steps=ENDLESS)
    process = celery_worker("training")
    wait_until(lambda: step_of(round) >= 1, seconds=PATIENCE)

    process.send_signal(signal.SIGTERM)
    process.wait(PATIENCE)

    round.refresh_from_db()
    assert (round.state, round.attempt) == ("queued", 0)
    assert round.events.filter(kind="released").exists()


@pytest.mark.faults
def test_rows_that_cannot_be_read_fail_the_round_with_a_sentence():
    round = queue_reward_round(make_project(), data="broken")

    supervise_round(round.pk)

    round.refresh_from_db()
    assert (round.state, round.error_code) == ("failed", "bad_input")
    assert "line 4" in round.error and "launch again" in round.error


@pytest.mark.faults
def test_a_trainer_killed_for_want_of_memory_fails_the_round_once():
    round = queue_reward_round(make_project(), steps=ENDLESS)
    supervisor = supervise_in_thread(round)
    wait_until(lambda: step_of(round) >= 1, seconds=PATIENCE)

    (trainer,) = trainers()
    os.kill(trainer.pid, signal.SIGKILL)
    supervisor.join(PATIENCE)

    round.refresh_from_db()
    assert (round.state, round.error_code, round.attempt) == ("failed", "out_of_memory", 1)


@services
@pytest.mark.faults
def test_a_supervisor_whose_round_was_taken_over_kills_its_trainer_and_writes_nothing_more():
    round = queue_reward_round(make_project(), steps=ENDLESS)
    supervisor = supervise_in_thread(round)
    wait_until(lambda: step_of(round) >= 1, seconds=PATIENCE)

    Round.objects.filter(pk=round.pk).update(lease_until=Now())
    successor = lease.claim(round.pk, owner="another")
    supervisor.join(PATIENCE)

    round.refresh_from_db()
    assert successor.token == round.token == 2
    assert (round.state, round.owner) == ("running", "another")
    assert not trainers()


def test_the_worker_never_loads_torch():
    code = (
        "import django, os, sys; os.environ['DJANGO_SETTINGS_MODULE'] = 'labelapp.settings'; django.setup();"
        "import labelapp.celery, labelapp.tasks; sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], timeout=PATIENCE).returncode == 0
