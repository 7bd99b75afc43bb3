"""Limits that end a run early: nested under "guards" in the stages that sample their own policy."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from alignment.config.job import build, require


@dataclass(frozen=True)
class Guards:
    """0 turns a limit off. The run ends with its reason and the best weights so far."""

    max_kl_nats: float = 0.0  # nats an answer that the policy may be away from its reference
    max_length_ratio: float = 0.0  # mean answer length over the first, or the first over it; 2 is usual
    max_repetition: float = 0.0  # share of 4-token runs that an answer repeats, 0 to 1
    max_disagreement: float = 0.0  # of the heads of a reward ensemble, over the first; 3 is usual

    def __post_init__(self) -> None:
        require(self.max_kl_nats >= 0, "max_kl_nats", self.max_kl_nats, "a number of nats, or 0 for no limit")
        share = self.max_repetition
        require(0 <= share < 1, "max_repetition", share, "a share below 1, or 0 for no limit")
        for name in ("max_length_ratio", "max_disagreement"):
            value = getattr(self, name)
            require(value == 0 or value > 1, name, value, "a ratio above 1, or 0 for no limit")


def guards(raw: dict[str, Any] | Guards | None) -> Guards:
    return raw if isinstance(raw, Guards) else build(Guards, raw or {})
