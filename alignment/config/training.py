"""What every training stage takes: the optimizer's plan and the precision."""

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
    activation_checkpointing: bool = False  # a third more time for a fraction of the memory

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
