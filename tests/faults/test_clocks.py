"""F13, F17: more beats than one, and machines whose clocks are wrong."""

import contextlib
import subprocess
from datetime import timedelta
from pathlib import Path

import pytest
from django.db.models.functions import Now
from django.utils import timezone

from labelapp.models import Round, Schedule
from labelapp.rounds import schedule
from labelapp.rounds.actions import request_cancel
from labelapp.rounds.lease import LEASE
from tests import servers
from tests.datasets.rows import vote
from tests.factories import make_project, make_user
from tests.faults.rounds import ENDLESS, reach, trainers_of
from tests.faults.servers import beat
from tests.rounds.material import make_parent, queue_reward_round
from tests.rounds.processes import wait_for
from tests.site.filled import SPLITS

pytestmark = [pytest.mark.faults, pytest.mark.django_db(transaction=True)]
HOUR = 3600


@pytest.mark.long
def test_two_beats_launch_what_is_due_once(celery_worker, tmp_path):
    project = make_project(admin=make_user())
    make_parent(project)
    row = Schedule(project=project, recipe="reward", enabled=True, every_judgments=2)
    schedule.save(row, by=project.memberships.get().user)
    for number, split in enumerate(("train", "test")):
        vote(project, "a", group=SPLITS[split], prompt=f"Argue for number {number}.")
    celery_worker("default")
    with beat(tmp_path / "one.log"), beat(tmp_path / "two.log"):
        servers.wait_until(Round.objects.exists, what="the round of the schedule")
        rung = Round.objects.get().rung_at
        servers.wait_until(lambda: later(rung), what="two more rings of the reconciler")
    round = Round.objects.get()
    assert [event.kind for event in round.events.all()] == ["launched"]
    row.refresh_from_db()
    assert row.last_round == round and row.busy_until is None


def later(moment) -> bool:
    """Whether a queued round was rung for again since: many beats have come by then."""
    return Round.objects.filter(rung_at__gt=moment + timedelta(seconds=10)).exists()


@pytest.fixture(scope="module")
def skew(tmp_path_factory):
    """skew(seconds): the environment of a process whose wall clock is wrong by so much."""
    library = tmp_path_factory.mktemp("clock") / "skew.so"
    words = ["cc", "-shared", "-fPIC", "-O1", "-o", str(library), str(Path(__file__).with_name("skew.c")), "-ldl"]
    with contextlib.suppress(OSError):
        if subprocess.run(words, capture_output=True).returncode == 0:
            return lambda seconds: {"LD_PRELOAD": str(library), "CLOCK_SKEW_SECONDS": str(seconds)}
    pytest.skip("no C compiler: the clock of a process cannot be set wrong")


@pytest.mark.long
@pytest.mark.parametrize("seconds", [HOUR, -HOUR])
def test_a_worker_whose_clock_is_an_hour_wrong_keeps_its_lease_and_steals_none(tmp_path, skew, seconds):
    wrong = skew(seconds)
    said = subprocess.run(["date", "+%s"], env=wrong, capture_output=True, text=True, check=True).stdout
    assert abs(int(said) - timezone.now().timestamp() - seconds) < 60
    round = queue_reward_round(make_project(), steps=ENDLESS)
    servers.purge_own_queues()
    names = ("default", "training")
    with (
        servers.worker(tmp_path / "wrong.log", *names, name="wrong", **wrong),
        beat(tmp_path / "beat.log", **wrong),
        servers.worker(tmp_path / "right.log", *names, name="right"),
        beat(tmp_path / "right-beat.log"),
    ):
        reach(round, 1)
        began = timezone.now()
        servers.wait_until(lambda: timezone.now() - began > LEASE + timedelta(seconds=10), what="more than a lease")
        assert Round.objects.filter(pk=round.pk, lease_until__gt=Now(), lease_until__lte=Now() + LEASE).exists()
        round.refresh_from_db()
        assert (round.state, round.token, len(trainers_of(round))) == ("running", 1, 1)
        request_cancel(round=round)
        wait_for(round, "cancelled")
    assert [event.kind for event in round.events.all()] == [
        "launched", "claimed", "stage_started", "cancel_requested", "cancelled"
    ]  # fmt: skip
    assert round.created_at <= round.started_at <= round.finished_at
