"""A PPO run killed in the middle of a rollout ends in the weights it would have had, bit for bit."""

import json
from dataclasses import replace

from tests.alignment.snapshots import make_job, metrics_of, user
from tests.alignment.stages import run
from tests.alignment.test_resume import start, wait_for_steps


def test_a_run_killed_within_a_rollout_resumes_to_the_very_same_policy(tmp_path, parent):
    rows = [{"id": i, "messages": user(f"Argue that {word} help.")} for i, word in enumerate("abcdefghijkl")]
    (tmp_path / "prompts.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    config = {
        "prompts": str(tmp_path / "prompts.jsonl"), "held_out_prompts": 1, "value": {"source": "policy"},
        "lora": {"rank": 4},
        "sampling": {"prompts": 4, "completions": 2, "max_new_tokens": 8, "passes": 3},
        "reward": {"terms": [{"kind": "contains", "pattern": "e"}]},
        "kl": {"beta": 0.1, "target_nats": 0.2, "horizon": 40},
        "optimization": {"learning_rate": 1e-2, "batch_size": 4, "epochs": 1, "checkpoint_every": 1, "watch_every": 4},
    }  # fmt: skip
    _, expected = run(make_job("ppo", tmp_path / "whole", config, parent=parent), tmp_path)
    whole = metrics_of(tmp_path / "whole")
    assert len({line["kl_beta"] for line in whole}) > 1  # the controller moved

    killed = start(make_job("ppo", tmp_path / "killed", config, parent=parent), tmp_path)
    wait_for_steps(killed, tmp_path / "killed", 9)  # six steps a rollout
    killed.kill()
    killed.wait()
    again = replace(make_job("ppo", tmp_path / "again", config, parent=parent), resume_from=str(tmp_path / "killed"))
    _, result = run(again, tmp_path)
    first = metrics_of(again.output)[0]["step"]
    assert first >= 9 and first % 6 != 1  # within the second rollout, not at the beginning of one
    assert result["checkpoint"]["sha256"] == expected["checkpoint"]["sha256"]
    clocks = {"seconds", "tokens_per_second"}
    told = [{key: line[key] for key in line.keys() - clocks} for line in metrics_of(again.output)]
    assert told == [{key: line[key] for key in line.keys() - clocks} for line in whole[first - 1 :]]
