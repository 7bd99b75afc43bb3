"""The reference's log-probabilities are computed once for the same parent and rows, and never read when damaged."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from alignment import preference
from alignment.models.sequences import Row
from alignment.objectives.reference import cached_reference, reference_key
from tests.alignment.snapshots import make_job, planted_pairs, write_snapshot
from tests.alignment.stages import FAST, run

ROWS = [Row([5, 6], [7, 2]), Row([5], [6, 7, 2])]


class Counted:
    """Computes some log-probabilities, and counts how often."""

    def __init__(self) -> None:
        self.calls = 0

    def __call__(self) -> torch.Tensor:
        self.calls += 1
        return torch.tensor([-1.5, -2.25])


@pytest.fixture
def job(tmp_path, parent):
    return make_job("preference", tmp_path / "out", {}, parent=parent)


def files_in(folder) -> list[Path]:
    return sorted(Path(folder).rglob("*.safetensors"))


def test_what_was_computed_is_read_back(job):
    compute = Counted()
    first = cached_reference(job, "", ROWS, "fp32", compute)
    assert torch.equal(cached_reference(job, "", ROWS, "fp32", compute), first)
    assert compute.calls == 1
    assert files_in(Path(job.output) / "reference")[0].stem == reference_key(job.inputs["parent"].sha256, ROWS, "fp32")


def test_the_key_is_of_the_parent_and_of_every_token():
    keys = {
        reference_key(parent, rows, precision)
        for parent in ("a", "b")
        for precision in ("fp32", "bf16")
        for rows in (ROWS, ROWS[::-1], [Row([5], [6, 7, 2]), ROWS[1]], [Row([5, 6, 7], [2]), ROWS[1]])
    }
    assert len(keys) == 16


def test_a_damaged_file_is_computed_again(job):
    compute = Counted()
    cached_reference(job, "", ROWS, "fp32", compute)
    (path,) = files_in(Path(job.output) / "reference")
    whole = path.read_bytes()
    for damaged in (whole[:-1] + bytes([whole[-1] ^ 1]), whole[:20], b""):
        path.write_bytes(damaged)
        assert cached_reference(job, "", ROWS, "fp32", compute).tolist() == [-1.5, -2.25]
        assert load_file(path)["logprobs"].tolist() == [-1.5, -2.25]
    assert compute.calls == 4


def test_runs_share_a_directory_and_a_resumed_attempt_reads_its_predecessors(job, tmp_path):
    compute, other = Counted(), make_job("preference", tmp_path / "other", {}, **job.inputs)
    cached_reference(job, str(tmp_path / "shared"), ROWS, "fp32", compute)
    cached_reference(other, str(tmp_path / "shared"), ROWS, "fp32", compute)
    assert compute.calls == 1
    cached_reference(job, "", ROWS, "fp32", compute)
    resumed = type(other)(**{**vars(other), "resume_from": job.output})
    cached_reference(resumed, "", ROWS, "fp32", compute)
    assert compute.calls == 2


def test_a_second_run_trains_to_the_same_weights_without_asking_the_reference(tmp_path, parent, monkeypatch):
    snapshot = write_snapshot(tmp_path / "s", planted_pairs(16, seed=0))
    config = {"reference_cache": str(tmp_path / "shared"), "optimization": {**FAST, "epochs": 1}}
    _, first = run(make_job("preference", tmp_path / "a", config, snapshot=snapshot, parent=parent), tmp_path)
    monkeypatch.setattr(preference, "frozen_logprobs", None)
    _, second = run(make_job("preference", tmp_path / "b", config, snapshot=snapshot, parent=parent), tmp_path)
    assert first["checkpoint"]["sha256"] == second["checkpoint"]["sha256"]


def test_losses_without_a_reference_ask_for_none(tmp_path, parent, monkeypatch):
    monkeypatch.setattr(preference, "cached_reference", None)
    snapshot = write_snapshot(tmp_path / "s", planted_pairs(16, seed=0))
    for loss in ("simpo", "orpo"):
        config = {"loss": loss, "optimization": {**FAST, "epochs": 1}}
        _, result = run(make_job("preference", tmp_path / loss, config, snapshot=snapshot, parent=parent), tmp_path)
        assert result["status"] == "done", result
