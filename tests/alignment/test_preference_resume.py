"""A preference run that is cut off again and again, at any moment, ends in the very artifact of an unbroken one."""

import random

import pytest

from alignment.models import sequences
from tests.alignment.kills import assert_kills_change_nothing
from tests.alignment.snapshots import make_job, metrics_of, planted_pairs, write_snapshot
from tests.alignment.stages import FAST, run

PLAN = {**FAST, "batch_size": 8, "epochs": 1, "checkpoint_every": 3, "watch_every": 5}
CASES = {
    "sigmoid": {},
    "lora": {"lora": {"rank": 4, "dropout": 0.1}, "terms": {"nll_weight": 0.1}},
    "kto": {"loss": "kto"},
    "orpo": {"loss": "orpo"},
    "groups": {"mitigation": {"group_rate": 0.3}},
}


PASSES = {"kto": 2}  # of a step; the others take one


class Cut(BaseException):
    """The end of a process that nobody announces: not even the stage's own report of a failure is written."""


@pytest.fixture
def jobs(tmp_path, parent):
    """A function that makes the job of one attempt."""
    snapshot = write_snapshot(tmp_path / "s", planted_pairs(160, seed=0, groups=20))

    def make(name: str, case: str, resume_from: str | None = None, epochs: int = 1):
        config = {**CASES[case], "optimization": {**PLAN, "epochs": epochs}}
        job = make_job("preference", tmp_path / name, config, snapshot=snapshot, parent=parent)
        return type(job)(**{**vars(job), "resume_from": resume_from})

    return make


@pytest.mark.parametrize("case", CASES)
def test_runs_cut_off_within_a_step_end_in_the_same_artifact(tmp_path, jobs, case, monkeypatch):
    _, whole = run(jobs("whole", case), tmp_path)
    last, draw, passes = None, random.Random(case), sequences.collate
    for attempt, calls in enumerate((draw.randint(8, 10), draw.randint(5, 8), draw.randint(5, 7))):
        left = iter(range(calls * PASSES.get(case, 1)))

        def collate(*given, left=left):
            if next(left, None) is None:
                raise Cut
            return passes(*given)

        monkeypatch.setattr(sequences, "collate", collate)
        job = jobs(f"attempt {attempt}", case, last)
        with pytest.raises(Cut):
            run(job, tmp_path)
        last = job.output
    monkeypatch.setattr(sequences, "collate", passes)
    _, result = run(jobs("again", case, last), tmp_path)
    assert metrics_of(tmp_path / "again")[0]["step"] > 3  # it did not begin at the beginning
    assert result["checkpoint"]["sha256"] == whole["checkpoint"]["sha256"]


@pytest.mark.parametrize("case", ["lora", "kto"])
def test_kills_at_random_moments_change_nothing(tmp_path, jobs, case):
    assert_kills_change_nothing(jobs("unused", case, epochs=2), tmp_path)
