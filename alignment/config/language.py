"""Stages that learn from text: the tokenizer, pretraining and supervised fine-tuning."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from alignment.config.job import require
from alignment.config.training import PRECISIONS, lora, optimization


@dataclass(frozen=True)
class TokenizerConfig:
    """Byte-level byte-pair encoding learnt from plain text."""

    text: list[str] = field(default_factory=list)  # .txt or .txt.gz; a blank line ends a document
    held_out_text: list[str] = field(default_factory=list)  # measured in bytes a token, one figure a file
    vocabulary: int = 4096  # tokens: 256 bytes, 5 control tokens and merges

    def __post_init__(self) -> None:
        require(bool(self.text), "text", self.text, "name at least one text file")
        require(self.vocabulary > 261, "vocabulary", self.vocabulary, "more than the 256 bytes and 5 control tokens")


@dataclass(frozen=True)
class PretrainConfig:
    """Next-token training on plain text. Without the inputs parent and tokenizer, the tokenizer is trained first."""

    text: list[str] = field(default_factory=list)  # .txt or .txt.gz; a blank line ends a document; twice counts twice
    held_out_text: list[str] = field(default_factory=list)  # measured in bits per byte, one figure a file
    vocabulary: int = 4096
    width: int = 256
    depth: int = 8
    heads: int = 8
    context: int = 512  # tokens a block
    separate_documents: bool = False  # whether a document sees itself alone, not those before it in its block
    micro_batch: int = 8  # blocks in memory at a time
    precision: str = "fp32"  # fp32 | bf16 (fp32 weights, bf16 products) | auto: bf16 where a probe finds it faster
    compile: bool = False  # torch.compile, which needs a C++ compiler on a CPU
    optimization: Any = None

    def __post_init__(self) -> None:
        require(bool(self.text), "text", self.text, "name at least one text file")
        require(self.precision in PRECISIONS, "precision", self.precision, "fp32, bf16 or auto")
        require(self.micro_batch >= 1, "micro_batch", self.micro_batch, "at least 1 block")
        require(self.width % self.heads == 0, "heads", self.heads, f"must divide the width {self.width}")
        object.__setattr__(self, "optimization", optimization(self.optimization))


@dataclass(frozen=True)
class SFTConfig:
    """Supervised fine-tuning on dialogues, loss on the assistant's tokens only."""

    rows: str = ""  # JSONL with "messages" or "prompt" and "completion"
    held_out_rows: str = ""  # as rows; they choose the best weights, and are measured at the end
    max_length: int = 512
    show: int = 0  # prompts that are answered as the policy changes, in samples.jsonl
    micro_tokens: int = 0  # tokens of one pass: memory and speed alone; 0: as many as suit the device
    precision: str = "fp32"  # fp32 | bf16 (fp32 weights, bf16 products) | auto: bf16 where a probe finds it faster
    lora: Any = None  # {"rank": 16, ...}: train an adapter, merged into the checkpoint; null trains all weights
    optimization: Any = None

    def __post_init__(self) -> None:
        require(bool(self.rows), "rows", self.rows, "name a JSONL file of dialogues")
        require(self.precision in PRECISIONS, "precision", self.precision, "fp32, bf16 or auto")
        require(self.max_length >= 8, "max_length", self.max_length, "at least 8 tokens")
        require(self.show >= 0, "show", self.show, "a number of prompts, or 0 for none")
        object.__setattr__(self, "lora", lora(self.lora))
        object.__setattr__(self, "optimization", optimization(self.optimization))
