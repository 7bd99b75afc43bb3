"""What every training stage takes: the optimizer's plan, the adapter and the precision."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from alignment.config.job import build, require

SCHEDULES = {"cosine", "linear", "constant"}
PRECISIONS = {"fp32", "bf16", "auto"}


@dataclass(frozen=True)
class Optimization:
    """Shared by every training stage; nested under "optimization"."""

    learning_rate: float = 3e-4
    schedule: str = "cosine"  # cosine | linear (both to a tenth of the peak) | constant
    batch_size: int = 16  # rows (pairs, dialogues or blocks) an optimizer step
    epochs: int = 1
    max_steps: int = 0  # 0: no limit besides the epochs
    warmup_share: float = 0.05
    weight_decay: float = 0.0
    adam_epsilon: float = 1e-8  # 1e-5 is usual for policy gradients
    max_grad_norm: float = 1.0
    checkpoint_every: int = 50  # optimizer steps
    watch_every: int = 0  # optimizer steps between two measurements on held-out data; 0: five in a run
    activation_checkpointing: bool = False  # layers run again in the backward pass: more time for less memory

    def __post_init__(self) -> None:
        require(0 < self.learning_rate < 1, "learning_rate", self.learning_rate, "choose a value between 0 and 1")
        require(self.schedule in SCHEDULES, "schedule", self.schedule, "cosine, linear or constant")
        require(0 < self.adam_epsilon < 1, "adam_epsilon", self.adam_epsilon, "a small positive number")
        require(self.watch_every >= 0, "watch_every", self.watch_every, "a number of steps, or 0 for five in a run")
        require(self.batch_size >= 1, "batch_size", self.batch_size, "at least 1 row")
        require(self.epochs >= 1, "epochs", self.epochs, "at least 1")
        require(self.max_steps >= 0, "max_steps", self.max_steps, "a number of steps, or 0 for no limit")
        require(0 <= self.warmup_share <= 1, "warmup_share", self.warmup_share, "a share from 0 to 1")
        require(self.weight_decay >= 0, "weight_decay", self.weight_decay, "0 or more")
        require(self.max_grad_norm > 0, "max_grad_norm", self.max_grad_norm, "a positive number, 1.0 is usual")
        require(self.checkpoint_every >= 1, "checkpoint_every", self.checkpoint_every, "at least 1 step")


def optimization(raw: dict[str, Any] | Optimization | None) -> Optimization:
    return raw if isinstance(raw, Optimization) else build(Optimization, raw or {})


@dataclass(frozen=True)
class Lora:
    """Low-rank adapters instead of all weights; nested under "lora". Source: arXiv:2106.09685."""

    rank: int = 16
    alpha: float = 32.0  # the adapter's product is scaled by alpha / rank
    dropout: float = 0.0  # of the adapter's input; 0 where a policy learns from its own samples
    targets: Any = "all-linear"  # or the last names of the layers, such as ["q_proj", "v_proj"]

    def __post_init__(self) -> None:
        require(self.rank >= 1, "lora.rank", self.rank, "at least 1")
        require(self.alpha > 0, "lora.alpha", self.alpha, "a positive number, twice the rank is usual")
        require(0 <= self.dropout < 1, "lora.dropout", self.dropout, "a share from 0 to below 1")
        named = isinstance(self.targets, list) and self.targets and all(isinstance(t, str) for t in self.targets)
        require(named or self.targets == "all-linear", "lora.targets", self.targets, '"all-linear" or a list of names')


def lora(raw: dict[str, Any] | Lora | None) -> Lora | None:
    """None trains all weights; {} is an adapter with the usual settings."""
    return raw if raw is None or isinstance(raw, Lora) else build(Lora, raw)
