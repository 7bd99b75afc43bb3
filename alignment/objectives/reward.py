"""The objective of the stage `reward`: a sum of named terms, each a pure function of a batch's scores and labels."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import accumulate
from typing import Any, NamedTuple

import torch
from torch import Tensor

from alignment.config import RewardConfig
from alignment.data.labels import Ranking
from alignment.losses.mitigation import counterfactual_penalty, head_overlap, length_penalty, length_split
from alignment.losses.pairwise import weighted_mean
from alignment.losses.reward import bradley_terry, centering, davidson, plackett_luce, safety
from alignment.mitigation.annotators import Annotators
from alignment.models.scores import Unit
from alignment.objectives.examples import Example


class Order(NamedTuple):
    """One annotator's ranking: the places of its texts among the R of the batch, tier by tier."""

    places: list[int]
    tiers: list[list[int]]  # into `places`
    head: int
    weight: float


class Batch(NamedTuple):
    """R texts and N labels. A label says of two texts, to one head, which is better."""

    units: list[Unit]  # the R texts as they are scored: of comparisons first, then of counterfactuals
    first: Tensor  # (N,) int64, a text's place among the R
    second: Tensor  # (N,) int64
    heads: Tensor  # (N,) int64, the head that learns it
    outcomes: Tensor  # (N, 3) shares: the first wins, the second wins, a tie
    margins: Tensor  # (N,) strength of the preference, 0 to 1
    weights: Tensor  # (N,)
    lengths: Tensor  # tokens of the completions of the comparisons
    rankings: list[Order]
    judged: Tensor  # (M,) int64, the places of the texts with safety labels
    unsafe: Tensor  # (M,) share of those who call the text unsafe
    safety_weights: Tensor  # (M,)
    counterfactuals: Tensor  # (K, 2) int64: a text's place and its counterfactual's
    numbers: Tensor  # (N,) int64, the labels' pairs among those with known annotators; -1: none
    owners: list[int]  # (N,) the labels' examples

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
    found = {}
    whole = explaining(scores, config)
    if config.heads.ensemble or config.heads.criteria:
        found["preference_nats"] = Term(1.0, preference(whole, batch, config, log_nu))
    if config.centering and len(batch.first):
        found["centering"] = Term(config.centering, centering(*batch.sides(whole)).mean())
    if config.heads.safety and len(batch.judged):
        losses = safety(scores[batch.judged, -1], batch.unsafe)  # the cost head is the last
        found["cost_nats"] = Term(config.heads.safety, weighted_mean(losses, batch.safety_weights))
    if config.counterfactual_weight and len(batch.counterfactuals):
        found["counterfactual_penalty"] = Term(config.counterfactual_weight, invariance(scores, batch))
    if config.mitigation.length_penalty and len(batch.first):
        found["length_penalty"] = Term(config.mitigation.length_penalty, length_reliance(scores, batch))
    return found


def explaining(scores: Tensor, config: RewardConfig) -> Tensor:
    """The scores (R, H) that the judgments are explained by: of quality and length, ODIN's two heads, the sum."""
    return scores.sum(1, keepdim=True) if config.mitigation.length_head else scores


def believed(batch: Batch, scores: Tensor, annotators: Annotators) -> Batch:
    """The batch with what its pairs' votes are worth, given the scores and the annotators, in place of its outcomes.

    The gradient then is that of the votes' own likelihood, `noisy_bradley_terry` (expectation-maximisation).
    """
    known = batch.numbers >= 0
    first = annotators.first_wins(batch.numbers[known], differences(batch, scores)[known])
    outcomes = batch.outcomes.clone()
    outcomes[known] = torch.stack([first, 1 - first, torch.zeros_like(first)], dim=1)
    return batch._replace(outcomes=outcomes)


def observe_votes(batch: Batch, scores: Tensor, annotators: Annotators) -> float:
    """Renew what is known of the annotators, and return the mean of their votes' negative log-likelihood, in nats."""
    known = batch.numbers >= 0
    annotators.observe(batch.numbers[known], differences(batch, scores)[known])
    return annotators.vote_nats()


def differences(batch: Batch, scores: Tensor) -> Tensor:
    """Scores (N,) of the first texts less the second ones', all that a model with a length head has."""
    whole = scores.detach().sum(1, keepdim=True)
    return (whole[batch.first] - whole[batch.second])[:, 0]


def length_reliance(scores: Tensor, batch: Batch) -> Tensor:
    """Squared correlation of the labels' score differences and those of log length; the mean over heads."""
    lengths, found = batch.lengths.log(), []
    for head in batch.heads.unique():
        first, second = batch.first[batch.heads == head], batch.second[batch.heads == head]
        found.append(length_penalty(scores[first, head] - scores[second, head], lengths[first] - lengths[second]))
    return torch.stack(found).mean()


def length_head_terms(scores: Tensor, batch: Batch, weight: float, heads: Tensor) -> dict[str, Term]:
    """ODIN's two losses, for scores (R, 2) of quality and length. `heads` (2, D) are the heads' weights."""
    own = scores[: len(batch.lengths)]
    split = length_split(own[:, 0], own[:, 1], batch.lengths.log())
    return {"length_split": Term(weight, split), "head_overlap": Term(weight, head_overlap(*heads))}


def total(found: Mapping[str, Term]) -> Tensor:
    """The objective: what the step's gradient is of."""
    return sum(term.weight * term.value for term in found.values())


def preference(scores: Tensor, batch: Batch, config: RewardConfig, log_nu: Tensor | None) -> Tensor:
    """Mean loss of the labels under their weights: Davidson's with ties, else Bradley-Terry's; or of the rankings."""
    rankings = config.labels.ranking == "plackett_luce"
    if not len(batch.rankings if rankings else batch.first):  # nothing was compared, or drawn by a bootstrap
        return scores.sum() * 0.0
    if rankings:
        losses = [plackett_luce(scores[one.places, one.head], one.tiers, log_nu) for one in batch.rankings]
        return weighted_mean(torch.stack(losses), scores.new_tensor([one.weight for one in batch.rankings]))
    return weighted_mean(label_losses(scores, batch, config, log_nu), batch.weights)


def label_losses(scores: Tensor, batch: Batch, config: RewardConfig, log_nu: Tensor | None) -> Tensor:
    """The loss (N,) of each label, in nats."""
    how: dict[str, Any] = {"margins": batch.margins, "margin": config.margin, "robust": config.labels.robust}
    how["label_smoothing"] = config.label_smoothing
    if log_nu is None:
        return bradley_terry(*batch.sides(scores), share=batch.outcomes[:, 0], **how)
    return davidson(*batch.sides(scores), batch.outcomes, log_nu, **how)


def invariance(scores: Tensor, batch: Batch) -> Tensor:
    """The counterfactual penalty, in variances of the scores of the batch's own texts; the mean over heads."""
    own = len(scores) - batch.counterfactuals.numel()
    penalties = [
        counterfactual_penalty(*head[batch.counterfactuals].unbind(1), head[:own]) for head in scores.unbind(1)
    ]
    return torch.stack(penalties).mean()


def batch_of(examples: Sequence[Example], counterfactuals: Sequence[Unit], device: torch.device) -> Batch:
    """The labels of the examples as tensors that index the scores of their texts."""
    starts = [0, *accumulate(len(example.texts) for example in examples)]
    placed = list(zip(starts, examples, strict=False))
    labels = [one.moved(range(start, starts[-1])) for start, example in placed for one in example.labels]
    orders = [one.moved(range(start, starts[-1])) for start, example in placed for one in example.rankings]
    judged = [one.moved(range(start, starts[-1])) for start, example in placed for one in example.safety]

    def integers(values: list[Any]) -> Tensor:
        return torch.tensor(values, dtype=torch.int64, device=device)

    def numbers(values: list[Any]) -> Tensor:
        return torch.tensor(values, dtype=torch.float32, device=device)

    return Batch(
        units=[*(example.texts for example in examples), *counterfactuals],
        first=integers([label.first for label in labels]),
        second=integers([label.second for label in labels]),
        heads=integers([label.head for label in labels]),
        outcomes=numbers([label.outcomes for label in labels]).view(-1, 3),
        margins=numbers([label.margin for label in labels]),
        weights=numbers([label.weight for label in labels]),
        lengths=numbers([length for example in examples for length in example.lengths]),
        rankings=[order_of(ranking) for ranking in orders],
        judged=integers([one.place for one in judged]),
        unsafe=numbers([one.unsafe for one in judged]),
        safety_weights=numbers([one.weight for one in judged]),
        counterfactuals=starts[-1] + integers(list(range(2 * len(counterfactuals)))).view(-1, 2),
        numbers=integers([label.number for label in labels]),
        owners=[number for number, example in enumerate(examples) for _ in example.labels],
    )


def order_of(ranking: Ranking) -> Order:
    """The ranking with its places counted among its own texts."""
    places = [place for tier in ranking.tiers for place in tier]
    tiers = [[places.index(place) for place in tier] for tier in ranking.tiers]
    return Order(places, tiers, ranking.head, ranking.weight)


class TieParameter:
    """Davidson's nu, a part of the run: given, or estimated by maximum likelihood beside the weights.

    At the maximum as many ties are expected as were seen, so nu is the ties seen over the ties expected for each unit
    of nu, both as running means over the batches (an M-step). It starts where texts of
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

    def learn(self, log_nu: Tensor, batch: Batch, config: RewardConfig) -> None:
        """Take in one batch: the gradient of its mean loss for log nu is the ties expected less the ties seen."""
        if self.given or log_nu.grad is None:
            return
        seen = ties_seen(batch, config)
        expected = (seen + log_nu.grad.item()) / self.nu
        self.seen += self.DECAY * (seen - self.seen)
        self.expected += self.DECAY * (expected - self.expected)

    def state_dict(self) -> dict[str, float]:
        return {"seen": self.seen, "expected": self.expected}

    def load_state_dict(self, state: dict[str, float]) -> None:
        self.seen, self.expected = state["seen"], state["expected"]


def ties_seen(batch: Batch, config: RewardConfig) -> float:
    """Ties in the mean label, or in the mean ranking, where a tier of n texts holds n - 1: the exponent of nu."""
    if config.labels.ranking == "plackett_luce":
        whole = sum(one.weight for one in batch.rankings)
        return sum(one.weight * (len(one.places) - len(one.tiers)) for one in batch.rankings) / whole
    counted = batch.weights * (1 + batch.margins) if config.margin == "scaled" else batch.weights
    return ((batch.outcomes[:, 2] * counted).sum() / batch.weights.sum()).item()
