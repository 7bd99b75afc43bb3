"""One task of `bench trainers` by TRL: `python -m benchmarks._trainers_trl TASK HOME OUTPUT THREADS fp32`.

TRL at its best on a CPU: fp32 (its default bf16 is several times slower there), no recomputed activations, no packing
(without FlashAttention it is slower, and lets dialogues see each other), rows sorted by length as our stages sort them,
the same optimizer. What runs under the clock is `trainer.train()`, with the state saved at the end, as ours is.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import trl
from datasets import Dataset

from alignment.__main__ import settle
from alignment.data.rows import read_jsonl
from alignment.data.text import load_tokenizer
from alignment.models.checkpoints import load_policy, reward_from_policy
from benchmarks._trainers_work import (
    BATCH,
    GROUP,
    LONGEST,
    NEW_TOKENS,
    PLAN,
    Task,
    encoded_pairs,
    job_of,
    order_of,
    timed,
)


def arguments(kind: Any, task: Task, output: Path, **options: Any) -> Any:
    return kind(**{
        "output_dir": str(output / "trl"), "per_device_train_batch_size": BATCH, "max_steps": task.steps,
        "learning_rate": PLAN["learning_rate"], "lr_scheduler_type": "constant", "warmup_steps": 0,
        "adam_beta1": 0.9, "adam_beta2": 0.95, "weight_decay": 0.0, "max_grad_norm": 1.0, "optim": "adamw_torch_fused",
        "bf16": False, "gradient_checkpointing": False, "use_cpu": True, "dataloader_num_workers": 0,
        "dataloader_pin_memory": False, "train_sampling_strategy": "sequential", "logging_steps": 1,
        "report_to": "none", "disable_tqdm": True, "save_strategy": "steps", "save_steps": task.steps, **options,
    })  # fmt: skip


def trainer_of(task: Task, home: Path, output: Path) -> Any:
    tokenizer = load_tokenizer(home / "policy")
    given = {"processing_class": tokenizer}
    if task.stage == "grpo":
        prompts = [{"prompt": row["messages"]} for _, row in read_jsonl(home / "prompts.jsonl", "prompts")]
        options = {"per_device_train_batch_size": 2 * BATCH, "num_generations": GROUP, "beta": 0.04,
                   "loss_type": "grpo", "max_completion_length": NEW_TOKENS, "shuffle_dataset": False}  # fmt: skip
        args = arguments(trl.GRPOConfig, task, output, **options)
        return trl.GRPOTrainer(model=str(home / "policy"), reward_funcs=mentions, args=args,
                               train_dataset=Dataset.from_list(prompts), **given)  # fmt: skip
    pairs = encoded_pairs(home)
    if task.stage == "sft":
        lengths = [len(p.prompt) + len(p.chosen) for p in pairs]
        rows = [row for _, row in read_jsonl(home / "dialogues.jsonl", "dialogues")]
        args = arguments(trl.SFTConfig, task, output, max_length=LONGEST)
        data = ordered(task, rows, lengths)
        return trl.SFTTrainer(load_policy(home / "policy"), args=args, train_dataset=data, **given)
    rows = [{name: row[name] for name in ("prompt", "chosen", "rejected")}
            for _, row in read_jsonl(home / "pairs" / "pairs-train.jsonl", "pairs")]  # fmt: skip
    data = ordered(task, rows, [pair.tokens for pair in pairs])
    if task.stage == "reward":
        args = arguments(trl.RewardConfig, task, output, max_length=LONGEST)
        return trl.RewardTrainer(reward_from_policy(home / "policy"), args=args, train_dataset=data, **given)
    precomputed = task.method == "dpo_precomputed"
    options = {"beta": 0.1, "max_length": LONGEST, "precompute_ref_log_probs": precomputed}
    args = arguments(trl.DPOConfig, task, output, **options)
    reference = None if precomputed else load_policy(home / "policy")
    return trl.DPOTrainer(load_policy(home / "policy"), reference, args=args, train_dataset=data, **given)


def ordered(task: Task, rows: list[dict], lengths: list[int]) -> Dataset:
    return Dataset.from_list([rows[i] for i in order_of(task, lengths)])


def mentions(completions: list, **_: Any) -> list[float]:
    """The rule that our side has as `contains`."""
    return [float("the" in completion[0]["content"]) for completion in completions]


def main(words: list[str]) -> None:
    task, home, output, threads = Task(words[0]), Path(words[1]), Path(words[2]), int(words[3])
    settle(job_of(task, home, output, threads, words[4]))
    trainer = trainer_of(task, home, output)
    timed(trainer.train, lambda: [row["loss"] for row in trainer.state.log_history if "loss" in row])


if __name__ == "__main__":
    main(sys.argv[1:])
