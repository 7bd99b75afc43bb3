"""What the proof's stages are asked to do: one config a stage, and how much of it a size runs.

Learning rates, numbers of steps and the weight of the KL were chosen with seed 100 and the development prompts in place
of the held-out ones (`--development --seeds 100`), mostly by the reward and KL of the training rollouts. The KL is to
stay where best-of-n can be, so that the two can be compared there.
"""

from __future__ import annotations

from typing import Any, NamedTuple

NOISE = 0.2  # share of the labels that are turned around
NEW_TOKENS = 36
CONTEXT = 128
BATCH = 128  # answers written at a time
COST_WORDS = r"(?i)\b(would|should|will|must|could|can|may|might)\b"  # what safe-GRPO is told to be sparing with
COST_LIMIT = 0.35  # share of the answers that may hold one of these words
COST_TARGET = 0.28  # what the stage is told: training meets a limit on average, and held-out prompts are to keep it too

KL = {"beta": 0.4}  # a Gaussian reward of deviation 1 would be best at 1 / (2 beta^2), 3 nats


class Size(NamedTuple):
    """How much of everything is run."""

    held_out: int = 72  # prompts on which everything is measured
    development: int = 24  # prompts on which this recipe was chosen
    pretrain_steps: int = 180
    sft_steps: int = 90
    train_samples: int = 16  # answers a training prompt, compared two by two
    test_samples: int = 8  # answers a held-out prompt, compared two by two: the reward model's accuracy
    reward_epochs: int = 2
    best_of: int = 32  # answers a held-out prompt; n of best-of-n goes up to so many
    answers: int = 8  # answers a held-out prompt and trained policy
    rollouts: int = 24  # of grpo and safe
    ppo_rollouts: int = 12
    run_rollouts: int = 3  # of each of the legs of the run without KL, of the first seed
    legs: int = 4
    bootstrap: int = 2000


FULL = Size()
TOY = Size(
    held_out=6, development=4, pretrain_steps=2, sft_steps=2, train_samples=4, test_samples=4, reward_epochs=1,
    best_of=8, answers=2, rollouts=1, ppo_rollouts=1, run_rollouts=1, legs=3, bootstrap=100,
)  # fmt: skip


def pretrain(size: Size, text: str) -> dict[str, Any]:
    plan = {"learning_rate": 3e-3, "batch_size": 16, "epochs": 100, "max_steps": size.pretrain_steps}
    shape = {"vocabulary": 2048, "width": 128, "depth": 4, "heads": 4, "context": CONTEXT}
    return {"text": [text], **shape, "micro_batch": 16, "optimization": {**plan, "weight_decay": 0.1}}


def sft(size: Size, rows: str) -> dict[str, Any]:
    plan = {"learning_rate": 1e-3, "batch_size": 24, "epochs": 10, "max_steps": size.sft_steps}
    return {"rows": rows, "max_length": CONTEXT, "optimization": plan}


def reward(size: Size) -> dict[str, Any]:
    plan = {"learning_rate": 5e-4, "batch_size": 32, "epochs": size.reward_epochs}
    return {"margin": "none", "max_length": CONTEXT, "label_smoothing": 0.1, "optimization": plan}


def dpo() -> dict[str, Any]:
    plan = {"learning_rate": 3e-4, "batch_size": 32, "epochs": 2}
    return {"beta": 0.1, "max_length": CONTEXT, "optimization": plan}


def sampling(prompts: int, completions: int, **more: Any) -> dict[str, Any]:
    return {"prompts": prompts, "completions": completions, "max_new_tokens": NEW_TOKENS, "batch_size": BATCH, **more}


def judging() -> dict[str, Any]:
    return {"normalize": True, "missing_end_penalty": 0.5, "max_length": CONTEXT}


def grpo(size: Size, prompts: str) -> dict[str, Any]:
    return {
        "prompts": prompts,
        "held_out_prompts": 0,
        "sampling": sampling(16, 8),
        "reward": judging(),
        "kl": KL,
        "optimization": {"learning_rate": 3e-4, "epochs": 100, "max_steps": size.rollouts},
    }


def safe(size: Size, prompts: str) -> dict[str, Any]:
    cost = {"terms": [{"kind": "matches", "pattern": COST_WORDS}], "limit": COST_TARGET, "rate": 1.0}
    return {**grpo(size, prompts), "cost": cost}


def ppo(size: Size, prompts: str) -> dict[str, Any]:
    return {
        "prompts": prompts,
        "held_out_prompts": 0,
        "sampling": sampling(64, 2, passes=2),
        "reward": judging(),
        "kl": KL,
        "optimization": {"learning_rate": 2e-4, "batch_size": 64, "epochs": 100, "max_steps": 4 * size.ppo_rollouts},
    }


def unheld(size: Size, prompts: str) -> dict[str, Any]:
    """One leg of the run that nothing holds near SFT: where optimising the reward model stops paying."""
    plan = {"learning_rate": 3e-4, "epochs": 100, "max_steps": size.run_rollouts}
    return {**grpo(size, prompts), "kl": {"beta": 0.0}, "optimization": plan}


def best_of_n(size: Size, prompts: str) -> dict[str, Any]:
    return {"prompts": prompts, "bootstrap": 100, "sampling": sampling(16, size.best_of), "reward": judging()}


def generate(prompts: str, samples: int) -> dict[str, Any]:
    return {"prompts": prompts, "samples": samples, "max_new_tokens": NEW_TOKENS, "batch_size": BATCH}


def evaluate(prompts: str, count: int, samples: int) -> dict[str, Any]:
    limits = {"max_length": CONTEXT, "max_new_tokens": NEW_TOKENS, "batch_size": BATCH, "bootstrap": 100}
    return {"prompts": prompts, "max_prompts": count, "samples": samples, **limits}
