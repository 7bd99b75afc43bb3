"""A round with a real worker and a real trainer, and everything that may happen to them."""

import os
import signal
import subprocess
import sys
import threading

import psutil
import pytest
from django.db.models.functions import Now

from alignment.manifest import read_manifest
from labelapp.celery import app
from labelapp.models import Round
from labelapp.rounds import lease
from labelapp.rounds.actions import SUPERVISE, request_cancel
from labelapp.rounds.supervise import supervise_round
from tests.factories import make_project
from tests.rounds.material import queue_reward_round
from tests.rounds.processes import kill, start_worker, wait_for, wait_until, worker

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.services]


def digest_of(round: Round) -> str:
    return round.stages.get().result["checkpoint"]["sha256"]


def weights_of(round: Round) -> str:
    """SHA-256 of the trained weights; the card beside them also holds seconds, which no two runs share."""
    checkpoint = round.stages.get().result["checkpoint"]["path"]
    return read_manifest(checkpoint)["files"]["model.safetensors"]["sha256"]


def test_a_round_runs_to_its_end_and_registers_its_version():
    round = queue_reward_round(make_project(), steps=4)

    supervise_round(round.pk)

    round.refresh_from_db()
    stage, version = round.stages.get(), round.versions.get()
    assert (round.state, stage.state, stage.step, stage.steps) == ("done", "done", 4, 4)
    assert [row.step for row in stage.metric_rows.all()] == [1, 2, 3, 4]
    assert version.name == f"reward-r1-{digest_of(round)[:8]}"
    assert version.parent == round.parent and version.card["stage"] == "reward"
    assert [event.kind for event in round.events.all()] == [
        "launched", "claimed", "stage_started", "stage_done", "done"
    ]  # fmt: skip


def test_a_worker_killed_in_mid_stage_is_resumed_to_the_same_bits():
    undisturbed = queue_reward_round(make_project(), steps=60)
    with worker():
        wait_for(undisturbed, "done", "failed")
    disturbed = queue_reward_round(make_project(), steps=60)

    first = start_worker()
    wait_until(lambda: disturbed.stages.get().step >= 4)
    kill(first)
    seen = disturbed.stages.get().step
    assert seen < 60
    Round.objects.filter(pk=disturbed.pk).update(lease_until=Now())  # its thirty seconds are over
    lease.reconcile()
    with worker():
        wait_for(disturbed, "done", "failed")

    assert disturbed.attempt == 2
    assert disturbed.stages.get().job["resume_from"]
    assert weights_of(disturbed) == weights_of(undisturbed)
    assert [row.step for row in disturbed.stages.get().metric_rows.all()] == list(range(1, 61))


def test_a_cancelled_round_stops_its_trainer_and_ends_cancelled():
    round = queue_reward_round(make_project(), steps=100_000)
    with worker():
        wait_until(lambda: round.stages.get().step >= 1)
        request_cancel(round=round)
        wait_for(round, "cancelled", "done", "failed")
    assert round.state == "cancelled"
    assert round.stages.get().state == "cancelled"
    assert not round.versions.exists()


def test_a_worker_told_to_end_saves_and_gives_the_round_back_without_using_an_attempt():
    round = queue_reward_round(make_project(), steps=100_000)
    process = start_worker()
    wait_until(lambda: round.stages.get().step >= 1)

    kill(process, signal.SIGTERM)

    round.refresh_from_db()
    assert (round.state, round.attempt) == ("queued", 0)
    assert round.events.filter(kind="released").exists()


def test_ten_messages_for_one_round_are_one_attempt():
    round = queue_reward_round(make_project(), steps=2)
    with worker():
        for _ in range(9):
            app.send_task(SUPERVISE, args=[round.pk])
        wait_for(round, "done", "failed")
    assert (round.state, round.attempt, round.token) == ("done", 1, 1)


def test_rows_that_cannot_be_read_fail_the_round_with_a_sentence():
    round = queue_reward_round(make_project(), data="broken")

    supervise_round(round.pk)

    round.refresh_from_db()
    assert (round.state, round.error_code) == ("failed", "bad_input")
    assert "line 4" in round.error and "launch again" in round.error


def test_a_trainer_killed_for_want_of_memory_fails_the_round_once():
    round = queue_reward_round(make_project(), steps=100_000)
    supervisor = threading.Thread(target=supervise_round, args=[round.pk])
    supervisor.start()
    wait_until(lambda: round.stages.get().step >= 1)
    (trainer,) = [p for p in psutil.Process().children() if "alignment" in p.cmdline()]
    os.kill(trainer.pid, signal.SIGKILL)
    supervisor.join(60)

    round.refresh_from_db()
    assert (round.state, round.error_code, round.attempt) == ("failed", "out_of_memory", 1)


def test_the_worker_never_loads_torch():
    code = "import labelapp.celery, labelapp.tasks, sys; sys.exit('torch' in sys.modules)"
    setup = "import django, os; os.environ['DJANGO_SETTINGS_MODULE']='labelapp.settings'; django.setup(); "
    assert subprocess.run([sys.executable, "-c", setup + code], timeout=60).returncode == 0
