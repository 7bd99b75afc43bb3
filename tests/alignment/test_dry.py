"""Dry runs: few steps, the whole run's steps, and a guess of its time; what a run takes of memory."""

import json
from dataclasses import replace

import pytest

from alignment.__main__ import main
from alignment.config import Input
from alignment.dry import Timing, Whole, left_out_seconds, noted, peak_bytes
from tests.alignment.snapshots import make_job, metrics_of, planted_pairs, write_snapshot
from tests.alignment.stages import FAST, run

MEGABYTE = 2**20
BEST = {"bootstrap": 100, "max_prompts": 12, "sampling": {"prompts": 4, "completions": 2, "max_new_tokens": 4}}


@pytest.fixture(scope="module")
def snapshot(tmp_path_factory):
    return write_snapshot(tmp_path_factory.mktemp("data") / "snapshot", *(planted_pairs(n, seed=n) for n in (96, 16)))


@pytest.fixture(scope="module")
def judge(tmp_path_factory, parent, snapshot):
    """A reward model that took one step."""
    folder = tmp_path_factory.mktemp("judge")
    config = {"optimization": {"max_steps": 1}}
    _, result = run(make_job("reward", folder / "out", config, snapshot=snapshot, parent=parent), folder)
    return Input(**result["checkpoint"])


def run_dry(stage: str, output, config: dict, **inputs: Input) -> dict:
    job = replace(make_job(stage, output, config, **inputs), dry_run=True)
    return run(job, output.parent)[1]


def test_what_was_left_out_is_reckoned_by_hand():
    timing = Timing()
    timing.steps, timing.watches, timing.saves = [9.0, 1.0, 3.0], [4.0], [0.5]
    whole = Whole(steps=13, watches=5, saves=3)
    assert left_out_seconds(timing, whole, warm=True) == 10 * 2 + 4 * 4 + 2 * 0.5
    assert left_out_seconds(timing, whole, warm=False) == pytest.approx(10 * 13 / 3 + 4 * 4 + 2 * 0.5)
    assert left_out_seconds(timing, Whole(3, 0, 1), warm=True) == 0


def test_a_stage_that_left_nothing_out_took_its_whole_time(tmp_path):
    assert noted(tmp_path, 7.0)["whole_seconds"] == 7.0


def test_memory_that_was_held_counts_after_it_is_given_back():
    before = peak_bytes()
    block = bytearray(max(64 * MEGABYTE, before // 2))
    block[::4096] = b"x" * len(block[::4096])
    del block
    assert peak_bytes() >= before and peak_bytes() > 64 * MEGABYTE


def test_a_dry_run_takes_three_steps_says_how_many_there_are_and_leaves_a_checkpoint(tmp_path, parent, snapshot):
    config = {"optimization": {**FAST, "epochs": 20}}
    job = make_job("reward", tmp_path / "out", config, snapshot=snapshot, parent=parent)
    job.dump(tmp_path / "job.json")
    assert main(["reward", str(tmp_path / "job.json"), "--dry-run"]) == 0
    result = json.loads((tmp_path / "out" / "result.json").read_text())
    rows = metrics_of(tmp_path / "out")
    assert [row["step"] for row in rows] == [1, 2, 3] and rows[0]["steps"] == result["dry_run"]["steps"] > 60
    assert result["checkpoint"] and result["device"] == "cpu" and result["peak_bytes"] > 50 * MEGABYTE
    assert result["dry_run"]["whole_seconds"] > result["seconds"] > result["dry_run"]["step_seconds"] > 0


def test_a_whole_run_takes_about_what_its_dry_run_said(tmp_path, parent, snapshot):
    """Within a factor of three: the machine that runs the tests has other work too."""
    config = {"optimization": {**FAST, "epochs": 24}}
    given = {"snapshot": snapshot, "parent": parent}
    told = run_dry("reward", tmp_path / "dry", config, **given)
    _, whole = run(make_job("reward", tmp_path / "whole", config, **given), tmp_path)
    assert len(metrics_of(tmp_path / "whole")) == told["dry_run"]["steps"] and "dry_run" not in whole
    assert told["dry_run"]["whole_seconds"] / 3 < whole["seconds"] < told["dry_run"]["whole_seconds"] * 3


def test_a_stage_that_samples_for_several_steps_runs_dry_for_whole_rollouts(tmp_path, parent, snapshot, judge):
    """4 prompts, 4 answers each, 8 answers a step, twice over: 4 steps learn from one rollout."""
    sampling = {"prompts": 4, "completions": 4, "passes": 2, "max_new_tokens": 4}
    config = {"sampling": sampling, "optimization": {"batch_size": 8, "max_steps": 40, "epochs": 9}}
    result = run_dry("grpo", tmp_path / "out", config, snapshot=snapshot, parent=parent, reward=judge)
    assert (result["dry_run"]["taken"], result["dry_run"]["steps"]) == (4, 40)


def test_stages_that_measure_run_dry_on_two_batches(tmp_path, parent, snapshot, judge):
    quick = {"max_new_tokens": 4, "bootstrap": 100, "batch_size": 2}
    asked = {"snapshot": snapshot, "reward": judge, "policy": parent, "parent": parent}
    for stage, config, inputs, whole in (
        ("evaluate", {**quick, "samples": 1, "max_prompts": 12}, asked, 12),
        ("audit", {**quick, "max_items": 10}, {"policy": parent}, 10),
        ("best_of_n", BEST, {"snapshot": snapshot, "policy": parent, "reward": judge}, 12),
    ):
        result = run_dry(stage, tmp_path / stage, config, **inputs)
        found = result["dry_run"]
        assert result["status"] == "done" and found["left_out_seconds"] > 0 and found["steps"] > found["taken"], stage
        assert len(metrics_of(tmp_path / stage)) <= whole


def test_rows_that_stand_in_for_the_others_give_fine_tuning_its_steps(tmp_path, parent, snapshot, judge):
    result = run_dry("best_of_n", tmp_path / "out", BEST, snapshot=snapshot, policy=parent, reward=judge)
    assert 12 <= result["rows"]["rows"] <= 24
