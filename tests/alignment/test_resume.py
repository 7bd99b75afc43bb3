"""A training run can be killed or stopped at any step and ends in the artifact it would have made."""

import json
import subprocess
import sys
import time

import pytest

from alignment.config import EXIT_STOPPED
from tests.alignment.kills import assert_kills_change_nothing, lines_of
from tests.alignment.snapshots import make_job, planted_pairs, write_snapshot
from tests.alignment.stages import FAST

TEXTS = ["Books are good for you.", "Children ask a teacher.", "People think while they read.", "Sure, that is!"]
PLAN = {**FAST, "batch_size": 4, "epochs": 9, "max_steps": 40, "checkpoint_every": 3, "watch_every": 5}


@pytest.mark.parametrize("stage", ["pretrain", "sft"])
def test_a_killed_run_resumes_to_the_very_same_artifact(tmp_path, parent, stage):
    if stage == "pretrain":
        (tmp_path / "text.txt").write_text("\n\n".join(TEXTS * 60))
        config = {"text": [str(tmp_path / "text.txt")], "held_out_text": [str(tmp_path / "text.txt")], "context": 32}
    else:
        rows = [{"prompt": f"Tell me {number}.", "completion": text} for number, text in enumerate(TEXTS * 12)]
        (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
        config = {"rows": str(tmp_path / "rows.jsonl"), "lora": {"rank": 4, "dropout": 0.2}}
    job = make_job(stage, tmp_path, {**config, "optimization": PLAN}, parent=parent)
    assert_kills_change_nothing(job, tmp_path)


def test_a_stopped_run_says_so_and_leaves_a_state(tmp_path, parent):
    snapshot = write_snapshot(tmp_path / "s", planted_pairs(64, seed=0))
    config = {"optimization": {**FAST, "epochs": 400, "checkpoint_every": 10**6}}
    make_job("reward", tmp_path / "out", config, snapshot=snapshot, parent=parent).dump(tmp_path / "job.json")
    running = subprocess.Popen([sys.executable, "-m", "alignment", "reward", str(tmp_path / "job.json")])
    while len(lines_of(tmp_path / "out")) < 2:
        assert running.poll() is None
        time.sleep(0.01)
    running.terminate()
    assert running.wait() == EXIT_STOPPED
    result = json.loads((tmp_path / "out" / "result.json").read_text())
    assert (result["status"], result["checkpoint"]) == ("stopped", None)
    assert (tmp_path / "out" / "state" / "state.safetensors").is_file()
