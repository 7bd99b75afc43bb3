"""Stages that measure."""

from __future__ import annotations

from dataclasses import dataclass

from alignment.config.job import require


@dataclass(frozen=True)
class EvaluateConfig:
    """Measure a reward model on held-out pairs, and a policy against its parent under that reward model.

    Inputs: snapshot, reward; optionally policy and parent (win rate, KL, length), and reward_baseline (the arm without
    the mitigation, for the paired comparison).
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

    def __post_init__(self) -> None:
        require(self.bootstrap >= 100, "bootstrap", self.bootstrap, "at least 100 resamples")
        require(self.samples >= 1, "samples", self.samples, "at least 1")
        require(self.answers >= 0, "answers", self.answers, "a number of answers, or 0 to ask for none")
        require(self.max_prompts >= 1, "max_prompts", self.max_prompts, "at least 1")
        require(self.max_new_tokens >= 1, "max_new_tokens", self.max_new_tokens, "at least 1")
        require(self.batch_size >= 1, "batch_size", self.batch_size, "at least 1 completion at a time")
        require(self.temperature > 0, "temperature", self.temperature, "above 0: greedy answers say nothing of the KL")
