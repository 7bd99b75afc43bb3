"""Rounds reserve devices: two never share one, those of serving are never taken, and whoever ends gives them back."""

import os
import subprocess
import sys
import threading

import pytest
from django.db import IntegrityError, connection, transaction

from labelapp.models import DeviceHold, Round
from labelapp.rounds import devices, lease
from labelapp.rounds.actions import launch_round, request_cancel
from tests.factories import make_project
from tests.faults.rounds import ENDLESS, reach, supervised, trainers_of
from tests.rounds.material import make_parent, make_snapshot, queue_reward_round
from tests.rounds.test_lease import expire

pytestmark = pytest.mark.django_db


@pytest.fixture
def two(settings):
    settings.TRAINING_DEVICE_NAMES = ["4", "5"]


def queue(wanted: int = 1) -> Round:
    round = queue_reward_round(make_project(), steps=ENDLESS)
    round.recipe["stages"][0]["devices"] = wanted
    round.save(update_fields=["recipe"])
    return round


def test_without_devices_to_give_nothing_is_reserved():
    round = queue(8)
    assert lease.claim(round.pk, owner="one") and devices.held(round) == []


def test_two_rounds_hold_different_devices_and_the_third_waits_and_says_so_once(two):
    first, second, third = queue(), queue(), queue()
    assert all(lease.claim(round.pk, owner="one") for round in (first, second))
    assert [devices.held(first), devices.held(second)] == [["4"], ["5"]]
    assert lease.claim(third.pk, owner="one") is None and lease.claim(third.pk, owner="one") is None
    third.refresh_from_db()
    assert (third.state, third.token, third.attempt) == ("queued", 0, 0)
    assert [event.kind for event in third.events.all()] == ["launched", "waits_for_devices"]
    assert third.events.last().detail | {"host": ""} == {"wanted": 1, "free": 0, "of": 2, "host": ""}


def test_a_round_that_asks_for_two_waits_until_both_are_free(two):
    one, both = queue(), queue(2)
    held = lease.claim(one.pk, owner="one")
    assert lease.claim(both.pk, owner="one") is None
    with lease.fenced(held) as round:
        lease.close(round, "done")
    assert lease.claim(both.pk, owner="one")
    assert devices.held(both) == ["4", "5"]


def test_whatever_ends_or_loses_a_round_gives_its_devices_back(two):
    for end in (cancel, lose, give_back):
        round = queue(2)
        held = lease.claim(round.pk, owner="one")
        assert DeviceHold.objects.count() == 2
        end(round, held)
        assert not DeviceHold.objects.exists(), end.__name__
        request_cancel(round=round) if Round.objects.get(pk=round.pk).state == "queued" else None


def cancel(round, held):
    with lease.fenced(held) as mine:
        lease.close(mine, "cancelled")


def lose(round, held):
    expire(round)
    lease.reconcile()


def give_back(round, held):
    lease.release(held, reason="the worker is shutting down")


def test_a_round_that_is_taken_over_keeps_its_own_devices(two):
    round = queue(2)
    lease.claim(round.pk, owner="one")
    expire(round)
    assert lease.claim(round.pk, owner="two") and devices.held(round) == ["4", "5"]


def test_the_database_refuses_a_device_to_a_second_round(two):
    first, second = queue(), queue()
    DeviceHold.objects.create(round=first, host="a", device="0")
    DeviceHold.objects.create(round=first, host="b", device="0")
    with pytest.raises(IntegrityError), transaction.atomic():
        DeviceHold.objects.create(round=second, host="a", device="0")


@pytest.mark.faults
@pytest.mark.django_db(transaction=True)
def test_of_eight_rounds_claimed_at_once_two_get_the_two_devices(two):
    rounds, claims = [queue() for _ in range(8)], []
    gate = threading.Barrier(8)

    def run(round):
        gate.wait()
        claims.append(lease.claim(round.pk, owner="racer"))
        connection.close()

    threads = [threading.Thread(target=run, args=[round]) for round in rounds]
    [thread.start() for thread in threads]
    [thread.join() for thread in threads]
    assert sum(claim is not None for claim in claims) == 2
    assert sorted(DeviceHold.objects.values_list("device", flat=True)) == ["4", "5"]


@pytest.mark.faults
@pytest.mark.long
@pytest.mark.django_db(transaction=True)
def test_the_trainer_sees_its_own_devices_alone(two):
    lease.claim(queue().pk, owner="another")
    round = queue()
    with supervised(round):
        reach(round, 1)
        (process,) = trainers_of(round)
        assert process.environ()["CUDA_VISIBLE_DEVICES"] == "5"
        request_cancel(round=round)
    assert round.state == "cancelled" and not round.device_holds.exists()


def test_servings_devices_are_refused_to_training_at_the_start():
    code = "import django, os; os.environ['DJANGO_SETTINGS_MODULE'] = 'labelapp.settings'; django.setup()"
    environ = {**os.environ, "TRAINING_DEVICE_NAMES": "0,1,2", "ENGINE_DEVICES": "2,3"}
    refused = subprocess.run([sys.executable, "-c", code], env=environ, capture_output=True, text=True)
    assert refused.returncode
    assert "ImproperlyConfigured: TRAINING_DEVICE_NAMES and ENGINE_DEVICES share 2" in refused.stderr


def test_a_launch_says_how_many_devices_it_wants():
    project = make_project()
    given = {"project": project, "snapshot": make_snapshot(project), "parent": make_parent(project)}
    round = launch_round(**given, recipe="reward", changes={"reward.devices": 2})
    assert devices.wanted_by(round) == 2


def test_a_dry_run_takes_a_device_that_no_round_holds_and_none_where_all_are_held(two):
    lease.claim(queue().pk, owner="one")
    assert devices.seen_by(devices.spare()) == {"CUDA_VISIBLE_DEVICES": "5"}
    lease.claim(queue().pk, owner="one")
    with pytest.raises(devices.NoDevice, match="0 of 2 devices are free"):
        devices.spare()
