"""One task of `bench trainers` by our stages: `python -m benchmarks._trainers_ours TASK HOME OUTPUT THREADS PRECISION`.

What runs under the clock is the stage's own `train`, from encoded rows to trained weights and the saved state.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from alignment import grpo, online, preference, reward, sft
from alignment.__main__ import keep_freed_memory, settle
from alignment.config import Job, stage_config
from alignment.data.rows import read_jsonl
from alignment.data.text import load_tokenizer
from alignment.models.checkpoints import load_policy, reward_from_policy
from alignment.models.heads import head_names
from alignment.objectives.examples import read_data
from benchmarks._trainers_work import Task, job_of, timed


def prepared(job: Job, config: Any) -> Callable[[], Any]:
    """The stage with everything read and loaded, up to its training."""
    parent = job.input_path("parent")
    tokenizer = load_tokenizer(parent)
    padding = tokenizer.pad_token_id
    if job.stage == "sft":
        model = load_policy(parent)
        dialogues = sft.read_dialogues(config.rows, tokenizer, config.max_length)
        return lambda: sft.train(job, config, model, dialogues, [], padding)
    if job.stage == "reward":
        data = read_data(tokenizer, job.input_path("snapshot"), config, job.seed)
        model = reward_from_policy(parent, head_names(config.heads))
        return lambda: reward.train(job, config, model, data, ([], []), padding)
    if job.stage == "preference":
        data = preference.read_data(tokenizer, job.input_path("snapshot"), config, job.seed)
        model = load_policy(parent)
        return lambda: preference.train(job, config, model, data, padding)
    setting = online.open_setting(job, config)

    def advantage(rollout: online.Rollout, beta: float) -> tuple[Any, dict[str, float]]:
        return grpo.group_relative(grpo.penalized_reward(rollout, config, beta), config), {}

    return lambda: grpo.train(job, config, setting, advantage, None)


def main(words: list[str]) -> None:
    task, home, output, threads = Task(words[0]), Path(words[1]), Path(words[2]), int(words[3])
    job = job_of(task, home, output, threads, words[4])
    keep_freed_memory()
    settle(job)
    run = prepared(job, stage_config(job))
    timed(run, lambda: [row["loss_nats" if "loss_nats" in row else "loss"] for _, row in
                        read_jsonl(output / "metrics.jsonl", "metrics")])  # fmt: skip


if __name__ == "__main__":
    main(sys.argv[1:])
