"""Stages that learn from judgments: the reward model and the preference losses."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from alignment.config.job import build, require
from alignment.config.training import optimization


@dataclass(frozen=True)
class Labels:
    """What a reward model takes for the truth; nested under "labels"."""

    tie_parameter: float = 0.0  # Davidson's nu: equals tie with probability nu / (2 + nu); 0: estimated from the ties
    robust: bool = False  # label_smoothing as the unbiased correction, not as cDPO's mixture

    def __post_init__(self) -> None:
        require(self.tie_parameter >= 0, "tie_parameter", self.tie_parameter, "a positive number, or 0 to estimate it")


@dataclass(frozen=True)
class RewardConfig:
    """Bradley-Terry reward model on a snapshot's pairs, read at the EOS token."""

    max_length: int = 512
    margin: str = "additive"  # none | additive | scaled (loss times 1 + margin)
    tie_weight: float = 0.0  # weight of ties in Davidson's likelihood, 1 is the proper one; 0 leaves them out
    label_smoothing: float = 0.0  # share of labels taken to be wrong
    centering: float = 0.01  # weight of the squared sum of a pair's two scores
    counterfactual_weight: float = 0.0  # weight of the counterfactual-invariance penalty; 0 is the baseline arm
    labels: Any = None
    optimization: Any = None

    def __post_init__(self) -> None:
        require(self.margin in {"none", "additive", "scaled"}, "margin", self.margin, "none, additive or scaled")
        require(0 <= self.label_smoothing < 0.5, "label_smoothing", self.label_smoothing, "0 up to below 0.5")
        require(self.centering >= 0, "centering", self.centering, "0 or more")
        require(self.tie_weight >= 0, "tie_weight", self.tie_weight, "0 or more")
        require(self.counterfactual_weight >= 0, "counterfactual_weight", self.counterfactual_weight, "0 or more")
        labels = self.labels if isinstance(self.labels, Labels) else build(Labels, self.labels or {})
        object.__setattr__(self, "labels", labels)
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
