"""Stages that learn from judgments: the reward model and the preference losses."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from alignment.config.job import require
from alignment.config.training import optimization


@dataclass(frozen=True)
class RewardConfig:
    """Bradley-Terry reward model on a snapshot's pairs, read at the EOS token."""

    max_length: int = 512
    margin: str = "additive"  # none | additive | scaled (loss times 1 + margin)
    tie_weight: float = 0.0  # weight of tied comparisons, pulled to equal scores; 0 leaves them out
    label_smoothing: float = 0.0
    centering: float = 0.01  # weight of the squared sum of a pair's two scores
    counterfactual_weight: float = 0.0  # weight of the counterfactual-invariance penalty; 0 is the baseline arm
    optimization: Any = None

    def __post_init__(self) -> None:
        require(self.margin in {"none", "additive", "scaled"}, "margin", self.margin, "none, additive or scaled")
        require(0 <= self.label_smoothing < 0.5, "label_smoothing", self.label_smoothing, "0 up to below 0.5")
        require(self.centering >= 0, "centering", self.centering, "0 or more")
        require(self.tie_weight >= 0, "tie_weight", self.tie_weight, "0 or more")
        require(self.counterfactual_weight >= 0, "counterfactual_weight", self.counterfactual_weight, "0 or more")
        object.__setattr__(self, "optimization", optimization(self.optimization))


@dataclass(frozen=True)
class PreferenceConfig:
    """Direct preference optimisation with a frozen reference (the parent)."""

    beta: float = 0.1
    max_length: int = 512
    label_smoothing: float = 0.0
    optimization: Any = None

    def __post_init__(self) -> None:
        require(self.beta > 0, "beta", self.beta, "a positive number, 0.1 is usual")
        require(0 <= self.label_smoothing < 0.5, "label_smoothing", self.label_smoothing, "0 up to below 0.5")
        object.__setattr__(self, "optimization", optimization(self.optimization))
