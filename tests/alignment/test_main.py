"""How a stage ends: result.json always tells, whatever went wrong."""

import errno
import json
import shutil
import subprocess
import sys

import pytest
import torch
from safetensors import SafetensorError

from alignment.__main__ import failure, main
from alignment.config import JobError, NonFiniteStep, ServerLost, Stopped
from alignment.manifest import ArtifactError


@pytest.mark.parametrize(
    ("error", "exit_code", "code"),
    [
        (JobError("no rows"), 64, "bad_input"),
        (ArtifactError("changed"), 64, "bad_input"),
        (NonFiniteStep("nan"), 70, "non_finite"),
        (Stopped("asked"), 75, "stopped"),
        (ServerLost("gone"), 75, "server_lost"),
        (MemoryError(), 1, "out_of_memory"),
        (torch.OutOfMemoryError("cuda"), 1, "out_of_memory"),
        (RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried"), 1, "out_of_memory"),
        (OSError(errno.ENOSPC, "No space left on device"), 74, "disk_full"),
        (OSError(errno.EFBIG, "File too large"), 74, "disk_full"),
        (SafetensorError("Error while serializing: I/O error: No space left on device (os error 28)"), 74, "disk_full"),
        (ZeroDivisionError("division by zero"), 1, "crashed"),
    ],
)
def test_every_end_has_a_name(error, exit_code, code):
    found = failure(error)
    assert found[:2] == (exit_code, code) and found[2]


def test_an_allocation_that_cannot_succeed_is_recognised():
    with pytest.raises(RuntimeError) as caught:
        torch.empty(2**60)
    assert failure(caught.value)[1] == "out_of_memory"


def write_job(tmp_path, **changes):
    job = {"stage": "sft", "inputs": {}, "config": {}, "output": str(tmp_path / "out"), **changes}
    (tmp_path / "job.json").write_text(json.dumps(job))
    return str(tmp_path / "job.json")


def result_of(tmp_path):
    return json.loads((tmp_path / "out" / "result.json").read_text())


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"config": {"speed": 3}}, "has no field 'speed'"),
        ({"config": {}}, "name a JSONL file"),
        ({"inputs": {"parent": {"path": "/absent", "sha256": "0"}}, "config": {"rows": "r"}}, "/absent is no artifact"),
        ({"stage": "reward"}, "is a job for the stage 'reward'"),
        ({"surprise": 1}, "has no field 'surprise'"),
        ({"output": 5}, "output"),
    ],
)
def test_a_bad_job_is_one_sentence_and_exit_64(tmp_path, capsys, changes, sentence):
    assert main(["sft", write_job(tmp_path, **changes)]) == 64
    printed = capsys.readouterr().err
    assert sentence in printed and printed.count("\n") == 1
    if "output" not in changes:
        result = result_of(tmp_path)
        assert (result["status"], result["code"], result["checkpoint"]) == ("failed", "bad_input", None)
        assert sentence in result["reason"]


def test_a_missing_job_file_and_a_missing_argument_are_sentences(tmp_path, capsys):
    assert main(["sft", str(tmp_path / "absent.json")]) == 64
    assert main([]) == 64
    assert "usage" in capsys.readouterr().err


def test_the_command_line_gives_the_exit_code(tmp_path):
    done = subprocess.run(
        [sys.executable, "-m", "alignment", "sft", write_job(tmp_path)], capture_output=True, text=True
    )
    assert done.returncode == 64 and done.stderr.startswith("rows is ''") and "Traceback" not in done.stderr


def test_a_crash_leaves_a_traceback_and_a_result(tmp_path, tiny_policy, capsys):
    """A folder where metrics.jsonl must go is nobody's bad input: the stage falls over it."""
    (tmp_path / "out" / "metrics.jsonl").mkdir(parents=True)
    (tmp_path / "rows.jsonl").write_text('{"prompt": "Hello", "completion": "You can."}')
    inputs = {"parent": {"path": tiny_policy[0], "sha256": tiny_policy[1]}}
    job = write_job(tmp_path, inputs=inputs, config={"rows": str(tmp_path / "rows.jsonl")})
    assert main(["sft", job]) == 1
    assert "Traceback" in capsys.readouterr().err
    assert result_of(tmp_path)["code"] == "crashed" and "IsADirectoryError" in result_of(tmp_path)["reason"]


@pytest.fixture
def by_path(tmp_path, tiny_policy):
    """Run SFT on a parent that the job names by its path alone; returns (exit code, result, the checkpoint's card)."""
    (tmp_path / "rows.jsonl").write_text('{"prompt": "Hello", "completion": "You can."}')

    def run(parent):
        job = write_job(tmp_path, inputs={"parent": str(parent)}, config={"rows": str(tmp_path / "rows.jsonl")})
        exit_code, card = main(["sft", job]), tmp_path / "out" / "checkpoint" / "card.json"
        return exit_code, result_of(tmp_path), json.loads(card.read_text()) if card.is_file() else None

    return run


def test_an_input_named_by_its_path_alone_is_pinned_and_told(by_path, tiny_policy):
    exit_code, _, card = by_path(tiny_policy[0])
    assert exit_code == 0 and card["inputs"] == {"parent": tiny_policy[1]}


def test_a_model_directory_without_a_manifest_is_pinned_by_its_files(by_path, tiny_policy, tmp_path):
    bare = tmp_path / "bare"
    shutil.copytree(tiny_policy[0], bare)
    (bare / "manifest.json").unlink()
    digests = [by_path(bare)[2]["inputs"]["parent"] for _ in range(2)]
    (bare / "README.md").write_text("other")
    assert len({*digests, by_path(bare)[2]["inputs"]["parent"]}) == 2


def test_a_path_alone_does_not_hide_a_changed_file(by_path, tiny_policy, tmp_path):
    shutil.copytree(tiny_policy[0], tmp_path / "changed")
    (tmp_path / "changed" / "config.json").write_text("{}")
    exit_code, result, _ = by_path(tmp_path / "changed")
    assert exit_code == 64 and "config.json has SHA-256" in result["reason"]
    assert by_path(tmp_path / "nowhere")[1]["reason"].endswith("name a snapshot, a checkpoint or a model's directory")
