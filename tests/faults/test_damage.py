"""F31: a flipped byte in what a round would go on from, or in what an earlier stage made."""

import shutil
from pathlib import Path

import pytest

from labelapp.models import Round
from labelapp.rounds.artifacts import stage_directory
from labelapp.rounds.supervise import supervise_round
from tests.factories import make_project
from tests.rounds.material import queue_reward_round
from tests.rounds.processes import weights_by_hand, weights_of

pytestmark = [pytest.mark.faults, pytest.mark.django_db(transaction=True)]


def flip_a_byte(path: Path, at: int = -1) -> None:
    content = bytearray(path.read_bytes())
    content[at] ^= 1
    path.write_bytes(content)


def test_a_damaged_state_is_passed_over_for_the_attempts_before_it_and_the_weights_are_the_same(tmp_path):
    round = queue_reward_round(make_project(), steps=400)
    supervise_round(round.pk, stopping=lambda: round.stages.get().step >= 4)
    round.refresh_from_db()
    stage = round.stages.get()
    first, second, third = (stage_directory(round, stage, token) for token in (1, 2, 3))
    shutil.copytree(first, second), shutil.copytree(first, third)
    flip_a_byte(second / "state" / "state.safetensors")
    flip_a_byte(third / "state" / "state.safetensors", at=40)
    Round.objects.filter(pk=round.pk).update(token=3)

    supervise_round(round.pk)

    round.refresh_from_db()
    assert (round.state, round.token) == ("done", 4), round.error
    assert round.stages.get().job["resume_from"] == str(first)
    damaged = round.events.filter(kind="state_damaged")
    assert [event.detail["resumed_from"] for event in damaged] == [str(first)] * 2
    assert str(third / "state") in damaged[0].detail["error"]
    assert weights_of(round) == weights_by_hand(round, tmp_path)


@pytest.mark.long
def test_without_a_whole_state_the_stage_begins_again():
    round = queue_reward_round(make_project(), steps=6)
    folder = stage_directory(round, round.stages.get(), 1) / "state"
    folder.mkdir(parents=True)
    (folder / "state.safetensors").write_bytes(b"half a header")
    Round.objects.filter(pk=round.pk).update(token=1)
    supervise_round(round.pk)
    round.refresh_from_db()
    assert round.state == "done" and round.stages.get().job["resume_from"] is None
    assert "no digest" in round.events.get(kind="state_damaged").detail["error"]


