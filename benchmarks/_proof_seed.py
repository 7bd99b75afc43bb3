"""One seed of the proof: the whole pipeline through the real stages, and what it left on each prompt measured."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from alignment.config import Input
from alignment.measures.overoptimisation import best_of_n_mean
from benchmarks import _proof_recipe as recipe
from benchmarks._gold import Labeled, Sample, gold_score, label, shuffle_labels
from benchmarks._proof_files import neighbours, write_language, write_prompts, write_snapshot
from benchmarks._proof_recipe import Size
from benchmarks._stages import Bench, side_by_side

COSTLY = re.compile(recipe.COST_WORDS)


class Splits(NamedTuple):
    """Prompts: the same for all seeds, so that seeds can be pooled by prompt."""

    training: list[str]
    measured: list[str]


class Policy(NamedTuple):
    """A policy's figures, (P,) each: means over its answers to each measured prompt."""

    gold: np.ndarray
    gain: np.ndarray  # gold over the mean of SFT's answers to the prompt
    win: np.ndarray  # share of answers whose gold is higher than SFT's with the same seed; a tie is half
    kl: np.ndarray  # nats an answer to SFT, from the policy's own answers
    cost: np.ndarray  # share of answers that hold a costly word


class Found(NamedTuple):
    """What one seed found on P measured prompts."""

    seed: int
    accuracy: dict[str, np.ndarray]  # noisy, clean: (pairs,) 1 where the reward model orders a pair so
    pair_prompts: list[str]  # of the pairs
    base_gold: np.ndarray  # (P,) of SFT
    base_cost: np.ndarray  # (P,)
    best_of: dict[int, np.ndarray]  # n to (P,) expected gold over SFT of the best of n by the reward model
    policies: dict[str, Policy]


class Models(NamedTuple):
    """What the policies start from."""

    sft: Input
    reward: Input
    snapshot: Input
    shuffled: Input
    prompts: str  # file of the training prompts
    measured: str  # file of the measured prompts


def run_seed(bench: Bench, size: Size, splits: Splits, *, unheld: bool) -> Found:
    """Pre-training to the last measurement; and, where that is asked for, the run without KL."""
    bench.work.mkdir(exist_ok=True)
    models, test = make_models(bench, size, splits)
    config = recipe.best_of_n(size, models.measured)
    bench.stage("best_of_n", "best_of_n", config, policy=models.sft, reward=models.reward)
    golds, rewards, costs = base_samples(bench, splits.measured)
    base = golds.mean(1)

    def trained(name: str, stage: str, config: dict[str, Any], **inputs: Input) -> Policy:
        policy = bench.train(name, stage, config, **inputs)
        return measure(bench, size, name, models, policy, base)

    online = {"parent": models.sft, "reward": models.reward}
    policies = side_by_side({
        "ppo": lambda: trained("ppo", "ppo", recipe.ppo(size, models.prompts), **online),
        "grpo": lambda: trained("grpo", "grpo", recipe.grpo(size, models.prompts), **online),
        "safe_grpo": lambda: trained("safe_grpo", "safe", recipe.safe(size, models.prompts), **online),
        "dpo": lambda: trained("dpo", "preference", recipe.dpo(), parent=models.sft, snapshot=models.snapshot),
        "shuffled_dpo": lambda: trained("shuffled_dpo", "preference", recipe.dpo(), parent=models.sft,
                                        snapshot=models.shuffled),
        "legs": lambda: unheld_run(bench, size, models, base) if unheld else {},
    })  # fmt: skip
    legs = policies.pop("legs")
    right = reward_accuracy(bench, "dpo", test)
    return Found(
        seed=bench.seed,
        accuracy=right,
        pair_prompts=[row.prompt for row in test],
        base_gold=base,
        base_cost=costs.mean(1),
        best_of={n: best_of(golds, rewards, n) - base for n in powers(golds.shape[1])},
        policies=policies | legs,
    )


def make_models(bench: Bench, size: Size, splits: Splits) -> tuple[Models, list[Labeled]]:
    """SFT, labels, the reward model; and the labeled pairs of measured prompts."""
    work, generator = bench.work, np.random.default_rng(bench.seed)
    text, dialogues = write_language(work)
    prompts = write_prompts(work / "training.jsonl", splits.training)
    measured = write_prompts(work / "measured.jsonl", splits.measured)
    base = bench.train("pretrain", "pretrain", recipe.pretrain(size, str(text)))
    sft = bench.train("sft", "sft", recipe.sft(size, str(dialogues)), parent=base)
    train, test = (
        labels(bench, name, sft, path, count, generator)
        for name, path, count in (("train", prompts, size.train_samples), ("test", measured, size.test_samples))
    )
    snapshot = write_snapshot(work / "snapshot", train, test)
    shuffled = write_snapshot(work / "shuffled", shuffle_labels(train, generator), test)
    reward = bench.train("reward", "reward", recipe.reward(size), snapshot=snapshot, parent=sft)
    return Models(sft, reward, snapshot, shuffled, str(prompts), str(measured)), test


def labels(
    bench: Bench, name: str, policy: Input, prompts: Path, samples: int, generator: np.random.Generator
) -> list[Labeled]:
    """Pairs of the policy's answers, ordered by gold, a fifth of them the wrong way."""
    bench.stage(f"{name}-samples", "generate", recipe.generate(str(prompts), samples), policy=policy)
    rows = bench.rows(f"{name}-samples", "completions.jsonl")
    return label(neighbours(rows), noise=recipe.NOISE, generator=generator)


def base_samples(bench: Bench, measured: list[str]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(gold, reward, cost) of SFT's answers, (P, N) each."""
    rows = bench.rows("best_of_n", "completions.jsonl")
    found = [(gold_score(Sample(row["text"])), row["reward"], is_costly(row["text"])) for row in rows]
    return tuple(np.asarray(found, dtype=float).T.reshape(3, len(measured), -1))


def is_costly(text: str) -> float:
    return float(COSTLY.search(text) is not None)


def best_of(golds: np.ndarray, rewards: np.ndarray, n: int) -> np.ndarray:
    """(P,) expected gold of the best of n by reward, from (P, N) samples."""
    return np.asarray([best_of_n_mean(proxy, gold, n) for proxy, gold in zip(rewards, golds, strict=True)])


def powers(most: int) -> list[int]:
    return [2**i for i in range(most.bit_length()) if 2**i <= most]


def unheld_run(bench: Bench, size: Size, models: Models, base: np.ndarray) -> dict[str, Policy]:
    """GRPO without KL, measured after each leg. Without KL no leg asks its parent anything, so legs make one run."""
    policy, found = models.sft, {}
    for number in range(1, size.legs + 1):
        name = f"run_{number}"
        leg = bench._replace(seed=1000 * number + bench.seed)  # other prompts and samples than the leg before
        policy = leg.train(name, "grpo", recipe.unheld(size, models.prompts), parent=policy, reward=models.reward)
        found[name] = measure(bench, size, name, models, policy, base)
    return found


def measure(bench: Bench, size: Size, name: str, models: Models, policy: Input, base: np.ndarray) -> Policy:
    """The policy's answers to the measured prompts beside SFT's with the same seeds."""
    config = recipe.evaluate(models.measured, len(base), size.answers)
    inputs = {"snapshot": models.snapshot, "reward": models.reward, "policy": policy, "parent": models.sft}
    bench.stage(f"{name}-evaluation", "evaluate", config, **inputs)
    return policy_of(bench.rows(f"{name}-evaluation", "samples.jsonl"), base)


def policy_of(rows: list[dict[str, Any]], base: np.ndarray) -> Policy:
    """The figures of a policy from the rows of samples.jsonl, which stand prompt by prompt."""
    ours, theirs = (
        np.asarray([gold_score(Sample(row[of]["text"])) for row in rows]).reshape(len(base), -1)
        for of in ("policy", "parent")
    )
    kl, cost = (
        np.asarray([of(row) for row in rows], dtype=float).reshape(len(base), -1).mean(1)
        for of in (lambda row: row["log_ratio_nats"], lambda row: is_costly(row["policy"]["text"]))
    )
    return Policy(ours.mean(1), ours.mean(1) - base, (np.sign(ours - theirs) / 2 + 0.5).mean(1), kl, cost)


def reward_accuracy(bench: Bench, name: str, test: list[Labeled]) -> dict[str, np.ndarray]:
    """1 for every measured pair that the reward model orders as its noisy label, and as gold does."""
    items = [row for row in bench.rows(f"{name}-evaluation", "items.jsonl") if row["kind"] == "pair"]
    noisy = np.asarray([row["chosen_score"] > row["rejected_score"] for row in items], dtype=float)
    clean = np.asarray([test[row["comparison"]].clean for row in items])
    return {"noisy": noisy, "clean": np.where(clean, noisy, 1 - noisy)}
