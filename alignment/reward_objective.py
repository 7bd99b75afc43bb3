"""The objective of the stage `reward`: a sum of named terms, each a pure function of a batch's scores and labels."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from alignment.config import RewardConfig
from alignment.losses.mitigation import counterfactual_penalty
from alignment.losses.pairwise import weighted_mean
from alignment.losses.reward import bradley_terry, centering, davidson
from alignment.reward_data import Example
from alignment.scores import Unit


class Batch(NamedTuple):
    """R texts and N labels. A label says of two texts, to one head, which is better."""

    units: list[Unit]  # the R texts as they are scored: of comparisons first, then of counterfactuals
    first: Tensor  # (N,) int64, a text's place among the R
    second: Tensor  # (N,) int64
    heads: Tensor  # (N,) int64, the head that learns it
    outcomes: Tensor  # (N, 3) shares: the first wins, the second wins, a tie
    margins: Tensor  # (N,) strength of the preference, 0 to 1
    weights: Tensor  # (N,)
    lengths: Tensor  # (R,) tokens of the completions
    counterfactuals: Tensor  # (K, 2) int64: a text's place and its counterfactual's

    def sides(self, scores: Tensor) -> tuple[Tensor, Tensor]:
        """The scores (N,) of the first and second texts under the labels' own heads."""
        return scores[self.first, self.heads], scores[self.second, self.heads]


class Term(NamedTuple):
    weight: float
    value: Tensor  # a scalar


def terms(scores: Tensor, batch: Batch, config: RewardConfig, log_nu: Tensor | None = None) -> dict[str, Term]:
    """The terms for scores (R, H), by the names that the metrics use.

    Args:
        log_nu: log of Davidson's tie parameter; None where ties are left out.
    """
    found = {"preference_nats": Term(1.0, preference(scores, batch, config, log_nu))}
    if config.centering and len(batch.first):
        found["centering"] = Term(config.centering, centering(*batch.sides(scores)).mean())
    if config.counterfactual_weight and len(batch.counterfactuals):
        found["counterfactual_penalty"] = Term(config.counterfactual_weight, invariance(scores, batch))
    return found


def total(found: Mapping[str, Term]) -> Tensor:
    """The objective: what the step's gradient is of."""
    return sum(term.weight * term.value for term in found.values())


def preference(scores: Tensor, batch: Batch, config: RewardConfig, log_nu: Tensor | None) -> Tensor:
    """Mean loss of the labels under their weights: Davidson's with ties, else Bradley-Terry's."""
    if not len(batch.first):  # every bootstrap left this batch out
        return scores.sum() * 0.0
    how: dict[str, Any] = {"margins": batch.margins, "margin": config.margin, "robust": config.labels.robust}
    how["label_smoothing"] = config.label_smoothing
    if log_nu is None:
        losses = bradley_terry(*batch.sides(scores), share=batch.outcomes[:, 0], **how)
    else:
        losses = davidson(*batch.sides(scores), batch.outcomes, log_nu, **how)
    return weighted_mean(losses, batch.weights)


def invariance(scores: Tensor, batch: Batch) -> Tensor:
    """The counterfactual penalty, in variances of the scores of the batch's own texts; the mean over heads."""
    own = len(scores) - batch.counterfactuals.numel()
    penalties = [
        counterfactual_penalty(*head[batch.counterfactuals].unbind(1), head[:own]) for head in scores.unbind(1)
    ]
    return torch.stack(penalties).mean()


def batch_of(examples: Sequence[Example], counterfactuals: Sequence[Unit], device: torch.device) -> Batch:
    """The labels of the examples as tensors that index the scores of their texts."""
    starts = [0]
    for example in examples:
        starts.append(starts[-1] + len(example.texts))
    labels = [(start, label) for start, example in zip(starts, examples, strict=False) for label in example.labels]

    def integers(values: list[Any]) -> Tensor:
        return torch.tensor(values, dtype=torch.int64, device=device)

    def numbers(values: list[Any]) -> Tensor:
        return torch.tensor(values, dtype=torch.float32, device=device)

    return Batch(
        units=[*(example.texts for example in examples), *counterfactuals],
        first=integers([start + label.first for start, label in labels]),
        second=integers([start + label.second for start, label in labels]),
        heads=integers([label.head for _, label in labels]),
        outcomes=numbers([label.outcomes for _, label in labels]).view(-1, 3),
        margins=numbers([label.margin for _, label in labels]),
        weights=numbers([label.weight for _, label in labels]),
        lengths=numbers([length for example in examples for length in example.lengths]),
        counterfactuals=integers(
            [(starts[-1] + 2 * n, starts[-1] + 2 * n + 1) for n in range(len(counterfactuals))]
        ).view(-1, 2),
    )


class TieParameter:
    """Davidson's nu, a part of the run: given, or estimated by maximum likelihood beside the weights.

    At the maximum as many ties are expected as were seen, so nu is the ties seen over the ties expected for each unit
    of nu, both as running means over the batches (the M-step; Davidson 1970, section 4). It starts where texts of
    equal scores would give the share of ties in the data.
    """

    DECAY = 0.05

    def __init__(self, share: float, given: float = 0.0) -> None:
        self.given = given
        self.seen = share
        self.expected = (1 - share) / 2  # ties for each unit of nu, between equals

    @property
    def nu(self) -> float:
        return self.given or self.seen / self.expected

    def log(self, device: torch.device) -> Tensor:
        """log nu as a scalar whose gradient `learn` takes."""
        return torch.tensor(math.log(self.nu), device=device, requires_grad=True)

    def learn(self, log_nu: Tensor, batch: Batch) -> None:
        """Take in one batch: the gradient of its mean loss for log nu is the ties expected less the ties seen."""
        if self.given or log_nu.grad is None:
            return
        seen = weighted_mean(batch.outcomes[:, 2], batch.weights).item()
        expected = (seen + log_nu.grad.item()) / self.nu
        self.seen += self.DECAY * (seen - self.seen)
        self.expected += self.DECAY * (expected - self.expected)

    def state_dict(self) -> dict[str, float]:
        return {"seen": self.seen, "expected": self.expected}

    def load_state_dict(self, state: dict[str, float]) -> None:
        self.seen, self.expected = state["seen"], state["expected"]
