"""How often each annotator is right, learned together with what they judge: one-coin Dawid-Skene over a reward model.

A vote is the number of a pair, the number of an annotator, and 1 where the annotator prefers the pair's first
completion, -1 where the second. Ties are no votes.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor

from alignment.losses.mitigation import noisy_bradley_terry

PRIOR_RIGHT, PRIOR_VOTES = 7.0, 9.0  # an annotator without votes is right in 7 of 9
LOWEST, HIGHEST = 0.5, 0.98  # nobody is turned around in silence, and nobody is trusted blindly
ROUNDS = 20  # of expectation and maximisation before the reward model says anything


class Votes(NamedTuple):
    """V votes on P pairs by K annotators."""

    pairs: Tensor  # (V,) int64, below P
    annotators: Tensor  # (V,) int64, below K
    signs: Tensor  # (V,) 1.0 or -1.0
    count: int  # P


def first_wins(differences: Tensor, votes: Votes, accuracies: Tensor) -> Tensor:
    """Probability that each pair's first completion is the better one, given scores and votes. Shape (P,).

    Args:
        differences: score of the first minus the second completion, shape (P,), in logits; 0 where nothing is known.
        accuracies: probability of a right vote, shape (K,).

    Source: Dawid & Skene 1979 with one coin an annotator; the prior of a pair is the reward model's (Raykar et al.
    2010, "Learning from crowds", JMLR 11).
    """
    said = accuracies.logit()[votes.annotators] * votes.signs
    return differences.index_add(0, votes.pairs, said).sigmoid()


def accuracies_of(first: Tensor, votes: Votes, count: int) -> Tensor:
    """Share of each annotator's votes that are right, with a prior and limits. Shape (count,).

    Args:
        first: probability that the first completion is the better one, shape (P,).
    """
    expected = first[votes.pairs]
    right = torch.where(votes.signs > 0, expected, 1 - expected)
    sums = torch.zeros(count, dtype=first.dtype).index_add(0, votes.annotators, right)
    votes_each = torch.bincount(votes.annotators, minlength=count)
    return ((sums + PRIOR_RIGHT) / (votes_each + PRIOR_VOTES)).clamp(LOWEST, HIGHEST)


class Annotators:
    """The annotators' accuracies during a run: a part of its state.

    Every step renews what is known of the pairs it saw, and then all accuracies: incremental expectation-maximisation
    (Neal & Hinton 1998).
    """

    def __init__(self, votes: Votes, count: int) -> None:
        self.votes, self.count = votes, count
        self.differences = torch.zeros(votes.count, dtype=torch.float64)  # as the reward model last saw them
        self.accuracies = torch.full((count,), PRIOR_RIGHT / PRIOR_VOTES, dtype=torch.float64)
        for _ in range(ROUNDS):
            self._renew()

    def first_wins(self, pairs: Tensor, differences: Tensor) -> Tensor:
        """Probability that the first completion is the better one, of pairs (B,) under these scores. Shape (B,)."""
        current = self.differences.index_put((pairs.cpu(),), differences.detach().to("cpu", torch.float64))
        return first_wins(current, self.votes, self.accuracies)[pairs.cpu()].to(differences)

    def vote_nats(self) -> float:
        """Mean negative log-likelihood of all votes, in nats, under the scores as they were last seen."""
        voted_for = self.differences[self.votes.pairs] * self.votes.signs
        return noisy_bradley_terry(voted_for, self.accuracies[self.votes.annotators]).mean().item()

    def observe(self, pairs: Tensor, differences: Tensor) -> None:
        """The reward model's score differences of these pairs, both shape (B,)."""
        self.differences[pairs.cpu()] = differences.detach().to("cpu", torch.float64)
        self._renew()

    def _renew(self) -> None:
        first = first_wins(self.differences, self.votes, self.accuracies)
        self.accuracies = accuracies_of(first, self.votes, self.count)

    def state_dict(self) -> dict[str, Any]:
        return {"differences": self.differences, "accuracies": self.accuracies}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.differences, self.accuracies = state["differences"].clone(), state["accuracies"].clone()
