"""A run on several devices that loses a rank, is told to stop, or is asked for what it cannot do."""

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest

from alignment import devices, launch
from alignment.__main__ import main
from alignment.config import JobError
from alignment.models.sharding import blank_of, gather
from alignment.state import part_of
from tests.alignment.ranks import FORKS, be, curve, run_ranks
from tests.alignment.snapshots import make_job, metrics_of
from tests.alignment.stages import run
from tests.alignment.test_devices import DIALOGUES, RULE

PLAN = {"learning_rate": 3e-3, "batch_size": 6, "epochs": 40, "max_steps": 16, "checkpoint_every": 3}


@pytest.fixture
def job(tmp_path, parent):
    """16 steps of sft, which a test may interrupt."""
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in DIALOGUES))
    config = {"rows": str(tmp_path / "rows.jsonl"), "optimization": PLAN}
    return make_job("sft", tmp_path / "whole", config, parent=parent)


def test_a_dry_run_on_several_devices_says_what_the_whole_would_take(tmp_path, job):
    result = run_ranks(replace(job, dry_run=True), tmp_path)
    assert (result["dry_run"]["steps"], result["dry_run"]["taken"]) == (16, 3)
    assert result["dry_run"]["whole_seconds"] > result["seconds"] > 0


def wait_for_state(output: Path, alive) -> None:
    while not (output / "state" / "state.safetensors").is_file():
        assert alive()
        time.sleep(0.01)


def test_a_killed_rank_ends_the_run_which_resumes_to_the_very_same_weights(tmp_path, job):
    expected = run_ranks(job, tmp_path)
    broken = replace(job, output=str(tmp_path / "broken"), devices=2)
    broken.dump(tmp_path / "broken.json")
    who = [(number, 2, tmp_path / "meeting", "sft", tmp_path / "broken.json") for number in range(2)]
    ranks = [FORKS.Process(target=be, args=each, daemon=True) for each in who]
    for rank in ranks:
        rank.start()
    wait_for_state(tmp_path / "broken", ranks[1].is_alive)
    ranks[1].kill()
    started = time.monotonic()
    ranks[0].join(30)
    assert ranks[0].exitcode == 1 and time.monotonic() - started < 20
    result = json.loads((tmp_path / "broken" / "result.json").read_text())
    assert (result["status"], result["code"]) == ("failed", "rank_lost") and "another rank is gone" in result["reason"]
    found = run_ranks(replace(job, output=str(tmp_path / "again"), resume_from=broken.output), tmp_path)
    assert found["status"] == "done", found["reason"]
    again, whole = curve(tmp_path / "again"), curve(tmp_path / "whole")
    assert min(again) > 1 and again == {step: whole[step] for step in again}
    assert found["checkpoint"]["sha256"] == expected["checkpoint"]["sha256"]
    parts = sorted(path.name for path in (tmp_path / "again" / "state").iterdir())
    assert parts == ["rank-1-step-16.safetensors", "state.safetensors"]  # older parts are gone


def test_sigterm_stops_every_rank_and_one_device_goes_on_from_their_state(tmp_path, job):
    stopped = replace(job, output=str(tmp_path / "stopped"), devices=2)
    stopped.dump(tmp_path / "stopped.json")
    process = subprocess.Popen([sys.executable, "-m", "alignment", "sft", str(tmp_path / "stopped.json")])
    wait_for_state(tmp_path / "stopped", lambda: process.poll() is None)
    process.terminate()
    assert process.wait(60) == 75
    result = json.loads((tmp_path / "stopped" / "result.json").read_text())
    assert result["status"] == "stopped" and result["reason"].startswith("stopped after step")
    run(job, tmp_path)
    exit_code, _ = run(replace(job, output=str(tmp_path / "again"), resume_from=stopped.output), tmp_path)
    assert exit_code == 0
    first, rest, whole = (curve(tmp_path / name) for name in ("stopped", "again", "whole"))
    assert len(first) + len(rest) == len(whole) == 16
    for step, line in (first | rest).items():
        assert line == pytest.approx(whole[step], rel=1e-4, abs=1e-4), f"step {step}"
    more = run_ranks(replace(job, output=str(tmp_path / "three"), resume_from=stopped.output), tmp_path, size=3)
    assert more["status"] == "done", more["reason"]
    for step, line in curve(tmp_path / "three").items():
        assert line == pytest.approx(whole[step], rel=1e-4, abs=1e-4), f"step {step} on three"


@pytest.mark.slow
def test_torchrun_starts_the_ranks_as_the_page_says(tmp_path, job):
    job = replace(job, config={**job.config, "optimization": {**PLAN, "max_steps": 4}}, devices=2)
    job.dump(tmp_path / "job.json")
    words = ["--nnodes=1", "--nproc-per-node=2", "--standalone", "-m", "alignment", "sft", str(tmp_path / "job.json")]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    subprocess.run([sys.executable, "-m", "torch.distributed.run", *words], check=True, env=environment, timeout=120)
    assert [line["step"] for line in metrics_of(job.output)] == [1, 2, 3, 4]
    card = json.loads((tmp_path / "whole" / "checkpoint" / "card.json").read_text())
    assert card["devices"] == 2


def program(text: str) -> subprocess.Popen:
    return subprocess.Popen([sys.executable, "-c", text])


def test_the_launcher_names_the_rank_that_was_killed_and_ends_the_others(tmp_path, monkeypatch):
    monkeypatch.setattr(launch, "GRACE_SECONDS", 0.3)
    ranks = launch.Run()
    ranks.ranks = [program("import time; time.sleep(60)") for _ in range(3)]
    ranks.ranks[1].kill()
    ranks.wait()
    code, said = launch.verdict(ranks, tmp_path)
    assert (code, said["code"]) == (1, "rank_lost")
    assert said["reason"].startswith("rank 1 of 3 was ended by SIGKILL, most likely for want of memory")


def test_the_launcher_believes_the_rank_that_knows_why(tmp_path):
    """Rank 0 saw only that another one had gone; that one said why."""
    for name, code, reason in (("result", "rank_lost", "gone"), ("rank-1", "disk_full", "the disk is full")):
        (tmp_path / f"{name}.json").write_text(json.dumps({"status": "failed", "code": code, "reason": reason}))
    ranks = launch.Run()
    ranks.ranks = [program("raise SystemExit(1)") for _ in range(2)]
    ranks.wait()
    code, said = launch.verdict(ranks, tmp_path)
    assert (code, said["code"], said["reason"]) == (1, "disk_full", "the disk is full")


def test_a_stop_before_the_first_step_is_a_stop(tmp_path):
    ranks = launch.Run()
    ranks.ranks = [program("import time; time.sleep(60)") for _ in range(2)]
    ranks.stop()
    ranks.wait()
    code, said = launch.verdict(ranks, tmp_path)
    assert (code, said["status"]) == (75, "stopped")
    assert {rank.returncode for rank in ranks.ranks} == {-signal.SIGTERM}


@pytest.mark.parametrize(
    ("stage", "value", "sentence"),
    [
        ("sft", 0, "devices is 0: a number of devices, 1 or more"),
        ("sft", "two", "devices is 'two'"),
        ("evaluate", 2, "the stage evaluate runs on one device; leave it out"),
    ],
)
def test_a_number_of_devices_that_cannot_be_is_refused(tmp_path, capsys, stage, value, sentence):
    job = {"stage": stage, "inputs": {}, "config": {}, "output": str(tmp_path / "out"), "devices": value}
    (tmp_path / "job.json").write_text(json.dumps(job))
    assert main([stage, str(tmp_path / "job.json")]) == 64
    assert sentence in capsys.readouterr().err


def test_ranks_that_the_job_does_not_count_are_refused(job, monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "4")
    with pytest.raises(JobError, match="devices is 2, but 4 ranks were started"):
        devices.join(replace(job, devices=2))


SERVER = {"url": "http://127.0.0.1:9", "directory": "/tmp"}
ONE_DEVICE = {
    "compile is True: leave it out on 2 devices": ("pretrain", {"text": ["a.txt"], "compile": True}),
    "mitigation.length_head is 1.0: leave it out on 2": ("reward", {"mitigation": {"length_head": 1.0}}),
    "sampling.server is Server(url='http://127.0.0.1:9'": ("grpo", {"sampling": {"server": SERVER}, "reward": RULE}),
}


@pytest.mark.parametrize("sentence", ONE_DEVICE)
def test_options_that_need_one_device_are_refused_by_name(tmp_path, capsys, sentence):
    stage, config = ONE_DEVICE[sentence]
    replace(make_job(stage, tmp_path / "out", config), devices=2).dump(tmp_path / "job.json")
    assert main([stage, str(tmp_path / "job.json")]) == 64
    assert sentence in capsys.readouterr().err


def test_ranks_share_the_threads_of_a_job(job, monkeypatch):
    assert launch.threads_of(replace(job, threads=6, devices=3)) == 2
    assert launch.threads_of(replace(job, threads=1, devices=3)) == 1
    assert launch.threads_of(replace(job, threads=5)) == 5
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "2")  # two of the four are on another machine
    assert launch.threads_of(replace(job, threads=6, devices=4)) == 3


@pytest.mark.parametrize("rows", [[5], [3, 0, 4, 1, 2], list(range(6))])
def test_every_row_is_dealt_once_and_all_ranks_get_equally_many_passes(monkeypatch, rows):
    lengths = [9, 1, 30, 4, 12, 7]
    dealt = []
    for rank in range(4):
        monkeypatch.setattr(devices, "_ranks", devices.Ranks(rank, 4))
        dealt.append(devices.deal(lengths, rows, 16))
    assert len({len(passes) for passes in dealt}) == 1
    assert [row for passes in dealt for one in passes if one.counts for row in one.rows] == rows
    assert all(len(one.rows) == 1 for passes in dealt for one in passes if not one.counts)


def test_shares_hold_about_equally_many_tokens():
    lengths = [10] * 7 + [30]
    assert devices.shares(lengths, range(8), 2) == [[0, 1, 2, 3, 4], [5, 6, 7]]


def test_a_blank_copy_keeps_ties_and_shapes_and_no_weights(policy):
    blank = blank_of(policy)
    assert blank.lm_head.weight is blank.model.embed_tokens.weight
    assert all(p.is_meta for p in blank.parameters())
    assert [p.shape for p in blank.parameters()] == [p.shape for p in policy.parameters()]
    gather([])  # nothing was sharded


def test_a_state_names_its_parts(tmp_path):
    path = tmp_path / "state.safetensors"
    assert part_of(path, 0, 7) == path and part_of(path, 2, 7).name == "rank-2-step-7.safetensors"


def test_a_state_that_lost_a_part_is_refused_by_its_file(tmp_path, job):
    job = replace(job, config={**job.config, "optimization": {**PLAN, "max_steps": 3}})
    run_ranks(job, tmp_path)
    (part,) = (tmp_path / "whole" / "state").glob("rank-1-*")
    part.unlink()
    _, result = run(replace(job, output=str(tmp_path / "again"), resume_from=job.output), tmp_path)
    assert result["code"] == "bad_input" and part.name in result["reason"]
