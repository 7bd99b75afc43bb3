"""F8, F9, F10 and their like: what goes wrong in a trainer ends the round under its own name, with advice, once."""

import contextlib
import os
import signal
import subprocess

import pytest

from labelapp.launching import read_launcher
from labelapp.models import Round
from labelapp.rounds import artifacts, trainer
from labelapp.rounds.actions import queue_round
from labelapp.rounds.supervise import supervise_round
from tests.factories import make_project
from tests.faults.rounds import ENDLESS, assert_ended, reach, states_of, supervised, trainers_of
from tests.rounds.material import TINY, make_parent, make_snapshot, queue_reward_round

pytestmark = [pytest.mark.faults, pytest.mark.django_db(transaction=True)]


def queue_with(lora: dict | None = None, data: str = "good", **plan) -> Round:
    """A reward round whose plan has these values."""
    project = make_project()
    config = {"lora": lora, "optimization": {**TINY, "max_steps": 40, "epochs": 1000, **plan}}
    inputs = {"snapshot": "snapshot", "parent": "parent"}
    spec = {"name": "reward", "stage": "reward", "config": config, "inputs": inputs}
    return queue_round(
        project=project,
        kind=Round.Kind.TRAINING,
        recipe={"name": "test", "title": "Reward model only", "stages": [spec]},
        snapshot=make_snapshot(project, data),
        parent=make_parent(project),
    )


@contextlib.contextmanager
def small_disk(place, kilobytes: int):
    """A file system of so many kilobytes at the place; skips where nobody may mount."""
    place.mkdir(parents=True, exist_ok=True)
    words = ["mount", "-t", "tmpfs", "-o", f"size={kilobytes}k,mode=0755", "tmpfs", str(place)]
    if subprocess.run(words, capture_output=True).returncode:
        pytest.skip("only root may mount a small disk; the limit on a file's size stands for it")
    try:
        yield
    finally:
        subprocess.run(["umount", "-l", str(place)], check=True)


def test_a_disk_that_fills_up_in_a_checkpoint_ends_the_round_and_the_last_state_stays_whole():
    round = queue_with(max_steps=ENDLESS, checkpoint_every=1)
    place = artifacts.round_directory(round)
    with small_disk(place, 2**16):
        with supervised(round):
            reach(round, 2)
            filler = place / "filler"
            with contextlib.suppress(OSError), open(filler, "wb") as stream:
                while stream.write(b"0" * 2**14):
                    stream.flush()
        assert_ended(round, "disk_full", "Free space where ARTIFACT_DIR lies")
        stage = round.stages.get()
        (folder,) = place.glob("1/*")
        assert [path.name for path in (folder / "state").iterdir()] == ["state.safetensors"]
        Round.objects.filter(pk=round.pk).update(token=2)
        round.refresh_from_db()
        assert artifacts.saved_state(round, stage) == (str(folder), [])
        filler.unlink()


@pytest.mark.long
def test_a_file_that_may_not_grow_ends_the_round_as_a_full_disk(settings):
    round = queue_with()
    settings.TRAINING_LAUNCHER = read_launcher("prlimit --fsize=20000 {command}")
    with supervised(round):
        pass
    assert_ended(round, "disk_full", "File too large", "Free space")
    assert not list(artifacts.round_directory(round).glob("1/*/state/*"))


def test_a_trainer_without_enough_memory_ends_its_round_with_advice(settings):
    big = queue_with(lora={"rank": 80_000_000})
    settings.TRAINING_LAUNCHER = read_launcher(f"prlimit --as={3 * 2**30} {{command}}")
    with supervised(big):
        pass
    assert_ended(big, "out_of_memory", "Use a smaller batch")


def test_a_loss_that_is_no_number_ends_the_round_at_its_step_and_keeps_the_state_before():
    round = queue_with(data="infinite", checkpoint_every=1)
    with supervised(round):
        pass
    assert_ended(round, "non_finite", "after step", "Lower the learning rate or look for broken rows")
    assert 1 <= round.stages.get().step < 6  # the first time that the row is met
    assert states_of(round)


@pytest.mark.long
def test_a_trainer_that_says_nothing_for_long_ends_its_round(settings, monkeypatch):
    monkeypatch.setattr(trainer, "STOP_SECONDS", 2)  # one that is stopped cannot obey
    round = queue_with(max_steps=ENDLESS)
    with supervised(round):
        reach(round, 1)
        (process,) = trainers_of(round)
        process.send_signal(signal.SIGSTOP)
        settings.TRAINING_SILENT_MINUTES = 2 / 60
    assert_ended(round, "timeout", "TRAINING_SILENT_MINUTES")


def test_a_setting_that_names_no_earlier_stages_file_ends_the_round_as_bad_input():
    round = queue_reward_round(make_project())
    round.recipe["stages"][0]["config"]["criterion"] = "file:"
    round.save(update_fields=["recipe"])
    supervise_round(round.pk)
    assert_ended(round, "bad_input", "'file:' names no file that an earlier stage wrote")


def test_a_trainer_that_is_stopped_before_it_gets_anywhere_is_not_started_for_ever(monkeypatch):
    round, begun = queue_with(max_steps=ENDLESS), trainer.start

    def start(*words, **more):
        child = begun(*words, **more)
        os.kill(child.pid, signal.SIGTERM)  # as a cluster that takes its machine back at once
        return child

    monkeypatch.setattr(trainer, "start", start)
    for _ in range(7):
        supervise_round(round.pk)
    round.refresh_from_db()
    assert (round.state, round.error_code, round.attempt) == ("failed", "lost", 5)
    assert round.events.filter(kind="released").count() == 4
