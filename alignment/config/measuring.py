"""Stages that measure."""

from __future__ import annotations

from dataclasses import dataclass

from alignment.config.job import require


@dataclass(frozen=True)
class ScoreConfig:
    """Scores of given answers. Input: reward; policy and parent for the drift. Writes scores.jsonl, a row an answer."""

    prompts: str = ""  # JSONL: {"id": ..., "messages": [...]}
    completions: str = ""  # JSONL: {"id": ..., "text": ...}, as generate writes it
    head: str = "reward"
    max_length: int = 512  # tokens that the reward model reads
    batch_size: int = 32

    def __post_init__(self) -> None:
        require(bool(self.prompts), "prompts", self.prompts, "name a JSONL file of prompts")
        require(bool(self.completions), "completions", self.completions, "name a JSONL file of answers to the prompts")
        require(bool(self.head), "head", self.head, "the name of a head of the reward model")
        require(self.max_length >= 8, "max_length", self.max_length, "at least 8 tokens")
        require(self.batch_size >= 1, "batch_size", self.batch_size, "at least 1 answer at a time")


@dataclass(frozen=True)
class InspectConfig:
    """Load a model from elsewhere as the other stages would. Input: model."""

    kind: str = "policy"  # policy | reward

    def __post_init__(self) -> None:
        require(self.kind in {"policy", "reward"}, "kind", self.kind, "policy or reward")


@dataclass(frozen=True)
class EvaluateConfig:
    """Measure a reward model on held-out pairs, and a policy against its parent under that reward model.

    Inputs: snapshot, reward; optionally policy and parent (win rate, KL, length), and for the paired comparison
    reward_baseline (the arm without the mitigation) or reward_champion (the model in use so far). A reward model `gold`
    that no stage learnt from shows where optimising pays no longer: on the best of n answers of the parent, and on the
    inputs checkpoint_1, checkpoint_2, ... of a run.
    """

    max_length: int = 512
    prompts: str = ""  # JSONL as for generate; empty: the snapshot's held-out prompts
    max_prompts: int = 128
    samples: int = 2  # answers a prompt
    answers: int = 0  # at least so many in all: few prompts get more samples each
    max_new_tokens: int = 96
    temperature: float = 1.0
    bootstrap: int = 1000
    batch_size: int = 32
    reward_bench: str = ""  # JSONL in RewardBench's format: {"prompt", "chosen", "rejected", "subset"}
    best_of: int = 0  # answers a prompt for the curve of best-of-n, n up to so many; 0: no such curve
    gold_points: str = ""  # JSONL of held-out judgments, {"prompt", "kl_nats", "gold"}: a curve measured elsewhere

    def __post_init__(self) -> None:
        require(self.bootstrap >= 100, "bootstrap", self.bootstrap, "at least 100 resamples")
        require(self.samples >= 1, "samples", self.samples, "at least 1")
        require(self.answers >= 0, "answers", self.answers, "a number of answers, or 0 to ask for none")
        require(self.best_of == 0 or self.best_of >= 8, "best_of", self.best_of, "at least 8, or 0 for no such curve")
        require(self.max_prompts >= 1, "max_prompts", self.max_prompts, "at least 1")
        require(self.max_new_tokens >= 1, "max_new_tokens", self.max_new_tokens, "at least 1")
        require(self.batch_size >= 1, "batch_size", self.batch_size, "at least 1 completion at a time")
        require(self.temperature > 0, "temperature", self.temperature, "above 0: greedy answers say nothing of the KL")


@dataclass(frozen=True)
class AuditConfig:
    """Measure bias, safety and calibration of a reward model (inputs: snapshot, reward), of a policy, or of both.

    Each may be compared with a champion on the same items: reward_champion, policy_champion.
    """

    max_length: int = 512
    refusal_prompts: str = ""  # JSONL: {"id", "prompt", "safe": true or false}; empty: XSTest, which ships
    bbq_items: str = ""  # JSONL in BBQ's format; empty: 600 items of three categories, which ship
    max_items: int = 0  # of each of the two, evenly spaced; 0: all
    max_new_tokens: int = 64  # of an answer to a refusal prompt: a refusal comes early
    temperature: float = 0.0  # 0 is greedy
    bootstrap: int = 1000
    batch_size: int = 32

    def __post_init__(self) -> None:
        require(self.max_length >= 8, "max_length", self.max_length, "at least 8 tokens")
        require(self.max_items >= 0, "max_items", self.max_items, "a number of items, or 0 for all")
        require(self.max_new_tokens >= 1, "max_new_tokens", self.max_new_tokens, "at least 1")
        require(self.temperature >= 0, "temperature", self.temperature, "0 (greedy) or more")
        require(self.bootstrap >= 100, "bootstrap", self.bootstrap, "at least 100 resamples")
        require(self.batch_size >= 1, "batch_size", self.batch_size, "at least 1 answer at a time")
