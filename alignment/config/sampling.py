"""Stages that sample a policy."""

from __future__ import annotations

from dataclasses import dataclass

from alignment.config.job import require


@dataclass(frozen=True)
class GenerateConfig:
    """Sample completions of one policy. Writes completions.jsonl, one row a sample."""

    prompts: str = ""  # JSONL: {"id": ..., "messages": [...]}
    samples: int = 1  # completions a prompt
    max_new_tokens: int = 128
    temperature: float = 1.0  # 0 is greedy
    top_p: float = 1.0
    batch_size: int = 32

    def __post_init__(self) -> None:
        require(bool(self.prompts), "prompts", self.prompts, "name a JSONL file of prompts")
        require(self.samples >= 1, "samples", self.samples, "at least 1")
        require(self.temperature >= 0, "temperature", self.temperature, "0 (greedy) or more")
        require(0 < self.top_p <= 1, "top_p", self.top_p, "above 0, at most 1")
        require(self.max_new_tokens >= 1, "max_new_tokens", self.max_new_tokens, "at least 1")
        require(self.batch_size >= 1, "batch_size", self.batch_size, "at least 1 completion at a time")
