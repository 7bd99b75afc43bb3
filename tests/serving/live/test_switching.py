"""The alias moves while clients talk: nobody notices but by the name of the version."""

import random
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from pathlib import Path

import openai
import pytest
from django.db import connection
from django.utils import timezone

from labelapp.models import Deployment, EngineVersion, Version
from labelapp.rounds.promote import ArtifactChanged, SwitchRefused, is_loaded, promote, rollback
from tests import servers
from tests.serving.live.conftest import promote_now, tiny_version
from tests.serving.live.test_openai_client import say


class Talkers:
    """Threads that ask without pause, streaming and not, until they are told to stop."""

    def __init__(self, served, count: int) -> None:
        self.served, self.stop = served, threading.Event()
        self.fingerprints: list[set[str]] = []
        self.failures: list[Exception] = []
        self.threads = [threading.Thread(target=self.talk, args=[number % 2 == 0]) for number in range(count)]

    def __enter__(self) -> "Talkers":
        for thread in self.threads:
            thread.start()
        return self

    def __exit__(self, *_) -> None:
        self.stop.set()
        for thread in self.threads:
            thread.join(60)

    def talk(self, stream: bool) -> None:
        client = self.served.client()
        while not self.stop.is_set():
            try:
                answer = say(client, max_tokens=20, stream=stream)
                names = {chunk.system_fingerprint for chunk in answer} if stream else {answer.system_fingerprint}
                self.fingerprints.append(names)
            except Exception as failure:
                self.failures.append(failure)


class People:
    """Threads that each promote or roll back at random, as fast as they can, for so many seconds."""

    def __init__(self, served, seconds: float) -> None:
        self.served, self.until = served, time.monotonic() + seconds

    def switch(self, seed: int) -> tuple[int, int]:
        """(switches, refusals) of one of them."""
        chance, moved, refused = random.Random(seed), 0, 0
        try:
            while time.monotonic() < self.until:
                try:
                    self.move(self.served.deployment, chance)
                    moved += 1
                except SwitchRefused:
                    refused += 1
                time.sleep(chance.random() / 10)
        finally:
            connection.close()
        return moved, refused

    def move(self, seen: Deployment, chance: random.Random) -> None:
        if chance.random() < 0.4:
            rollback(deployment=seen, by=self.served.admin, seen_epoch=seen.epoch)
        else:
            version = chance.choice([self.served.first, self.served.second])
            promote(deployment=seen, version=version, by=self.served.admin, reason="chance", seen_epoch=seen.epoch)


@pytest.mark.faults
def test_switching_under_load_fails_no_request(served):
    promote_now(served, served.first)
    seen_before = served.deployment.epoch
    with Talkers(served, 4) as talkers:
        for turn in range(12):
            deployment = served.deployment
            if turn % 2 and deployment.epoch > 1:
                rollback(deployment=deployment, by=served.admin, seen_epoch=deployment.epoch)
            else:
                other = served.second if deployment.version == served.first else served.first
                promote(
                    deployment=deployment, version=other, by=served.admin, reason="a test", seen_epoch=deployment.epoch
                )
            time.sleep(0.25)

    assert talkers.failures == []
    assert all(len(names) == 1 for names in talkers.fingerprints)
    assert set.union(*talkers.fingerprints) == {served.first.name, served.second.name}
    events = served.deployment.events.order_by("epoch")
    epochs = [event.epoch for event in events]
    assert epochs == list(range(1, len(epochs) + 1)) and len(epochs) == seen_before + 12
    slowest = max(event.switch_seconds for event in events[seen_before:])
    print(f"\n12 switches under load: slowest {slowest:.3f} s, {len(talkers.fingerprints)} answers, none failed")


@pytest.mark.parametrize("seconds", [5, pytest.param(60, marks=[pytest.mark.faults, pytest.mark.long])])
def test_twenty_people_switch_at_random_and_no_stream_fails_and_the_history_is_one_line(served, seconds):
    promote_now(served, served.first)
    before = served.deployment.epoch
    with Talkers(served, 4) as talkers:
        people = People(served, seconds)
        with ThreadPoolExecutor(20) as pool:
            counts = list(pool.map(people.switch, range(20)))

    assert talkers.failures == []
    assert all(len(names) == 1 for names in talkers.fingerprints)
    events = list(served.deployment.events.filter(epoch__gt=before).order_by("epoch"))
    assert [event.epoch for event in events] == list(range(before + 1, before + 1 + len(events)))
    assert all(now.previous_id == last.version_id for last, now in pairwise(events))
    assert served.deployment.version_id == events[-1].version_id
    moved, refused = (sum(column) for column in zip(*counts, strict=True))
    assert 1 < moved == len(events)
    slowest = max(event.switch_seconds for event in events)
    assert slowest < 2
    print(
        f"\n{moved} switches and {refused} refusals in {seconds} s: slowest {slowest:.3f} s, "
        f"{len(talkers.fingerprints)} answers, none failed"
    )


def test_a_new_version_is_loaded_before_the_epoch_moves(served):
    third = tiny_version(served.project, served.place, 3)
    before = served.deployment
    promotion = promote(
        deployment=before, version=third, by=served.admin, reason="a test", seen_epoch=before.epoch
    )
    with Talkers(served, 2) as talkers:
        servers.wait_until(lambda: served.deployment.version_id == third.pk, what="the switch")
        servers.wait_until(lambda: {third.name} in talkers.fingerprints, what="an answer of the new version")

    assert talkers.failures == []
    assert is_loaded(third) and is_loaded(before.version)
    row = EngineVersion.objects.get(version=third)
    assert row.load_seconds > 0 and len(row.canary) == 64
    event = served.deployment.events.first()
    print(f"\nloading and switching took {event.switch_seconds} s (asked at epoch {promotion.deployment.epoch})")


@pytest.mark.faults
def test_a_tampered_artifact_is_never_served(served):
    promote_now(served, served.first)
    damaged = tiny_version(served.project, served.place, 4)
    flip_a_byte(damaged)
    with pytest.raises(ArtifactChanged):
        promote(deployment=served.deployment, version=damaged, by=served.admin, reason="x", seen_epoch=0)

    # As if the bytes had changed after the person's check.
    waiting = {"pending": damaged, "pending_since": timezone.now(), "pending_action": "promote"}
    Deployment.objects.filter(project=served.project).update(**waiting)

    servers.wait_until(lambda: served.deployment.pending_id is None, what="the end of the switch")
    assert served.deployment.version == served.first
    assert "model.safetensors" in served.deployment.pending_error
    row = EngineVersion.objects.get(version=damaged)
    assert row.state == "failed" and "SHA-256" in row.error
    with pytest.raises(openai.NotFoundError):
        say(served.client(), model=damaged.name)
    assert say(served.client()).system_fingerprint == served.first.name
    Version.objects.filter(pk=damaged.pk).update(state=Version.State.RETIRED)


def flip_a_byte(version: Version) -> None:
    path = Path(version.path) / "model.safetensors"
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
