"""What ends a run early, and the figures that show it: a policy far from its reference, long, repetitive or unsure of.

A stage puts the figures into its step's values under the names of `LIMITS`; a figure that it does not have is not
judged.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor

from alignment.config.guards import Guards
from alignment.loop import Guard

LIMITS = {  # the figure: its limit in the config, and what a person can do
    "kl_nats": ("max_kl_nats", "raise the KL coefficient, lower the learning rate, or allow more"),
    "length_ratio": ("max_length_ratio", "answers drift in length: use a reward without a taste for length"),
    "repetition": ("max_repetition", "answers repeat themselves: raise the KL coefficient or lower the learning rate"),
    "disagreement_ratio": ("max_disagreement", "the reward heads no longer agree: collect judgments of these answers"),
}


def loop_guards(limits: Guards) -> list[Guard]:
    """The guards of the limits that are on."""
    named = [(key, getattr(limits, field), remedy) for key, (field, remedy) in LIMITS.items()]
    return [Guard(key, limit, remedy) for key, limit, remedy in named if limit > 0]


class Baseline:
    """The first value of each figure, which later ones are measured against. A part of the run's state."""

    def __init__(self) -> None:
        self.first: dict[str, float] = {}

    def ratio(self, name: str, value: float) -> float:
        """value over the first of this name; 1 the first time."""
        first = self.first.setdefault(name, value)
        return 1.0 if value == first else value / first if first else float("inf")

    def state_dict(self) -> dict[str, Any]:
        return {"first": self.first}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.first = dict(state["first"])


def length_ratio(baseline: Baseline, lengths: Sequence[int]) -> float:
    """How far the mean length in tokens is from the first batch's, as a factor of 1 or more: shrinking is drift too."""
    ratio = baseline.ratio("tokens", sum(lengths) / len(lengths))
    return max(ratio, 1 / ratio) if ratio else float("inf")


def disagreement_ratio(baseline: Baseline, scores: Tensor) -> float:
    """How much more the heads disagree than on the first batch, which the policy had not yet moved away from."""
    return baseline.ratio("disagreement", disagreement(scores))


def disagreement(scores: Tensor) -> float:
    """Mean standard deviation over the heads of an ensemble, in the scores' unit.

    Args:
        scores: shape (N, K), N answers under K heads. Each head's own mean over the N answers is taken out first:
            Bradley-Terry leaves the zero of a head free, so a constant between two heads is no disagreement.

    Source: Coste et al. 2023, arXiv:2310.02743, whose UWO objective takes the variance over the members off.
    """
    centred = scores - scores.mean(dim=0, keepdim=True)
    return centred.std(dim=1, correction=0).mean().item()


def repetition(ids: Sequence[int], size: int = 4) -> float:
    """Share of the answer's token runs of this size that occurred before in it, 0 to 1."""
    runs = [tuple(ids[i : i + size]) for i in range(len(ids) - size + 1)]
    return 1 - len(set(runs)) / len(runs) if runs else 0.0


def mean_repetition(answers: Sequence[Sequence[int]]) -> float:
    return sum(map(repetition, answers)) / len(answers)
