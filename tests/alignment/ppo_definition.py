"""PPO by its definition, in float64: a completion at a time, a token at a time, with sums written out.

An independent second source beside the golden file of TRL's last PPO: nothing here is batched, padded, masked or taken
from `alignment`; the models are transformers' own. Sources: Schulman et al. 2017, arXiv:1707.06347, eq. 7 and 9;
Schulman et al. 2015, arXiv:1506.02438, eq. 9 and 16; Ziegler et al. 2019, arXiv:1909.08593, eq. 2; Ye et al. 2020,
arXiv:1912.09729, eq. 5; Dai et al. 2023, arXiv:2310.12773, section 3.2.
"""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import torch
from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification


class Episode(NamedTuple):
    prompt: list[int]
    answer: list[int]
    earned: float  # reward or cost, once, at the last token
    goes_on: bool  # the limit cut it off, and it is worth what its value says


class Numbers(NamedTuple):
    """Hyperparameters under the names of the papers."""

    temperature: float
    beta: float
    gamma: float
    lam: float
    clip_low: float
    clip_high: float
    dual: float  # 0: none
    value_clip: float
    value_coefficient: float
    whiten_rewards: bool


def policy_of(path: Path) -> torch.nn.Module:
    return AutoModelForCausalLM.from_pretrained(path, dtype=torch.float64).eval()


def value_of(path: Path) -> torch.nn.Module:
    return AutoModelForSequenceClassification.from_pretrained(path, num_labels=1, dtype=torch.float64).eval()


def log_probabilities(policy: torch.nn.Module, episode: Episode, temperature: float) -> list[torch.Tensor]:
    """log pi(a_t | s_t) of every token of the answer."""
    logits = policy(torch.tensor([episode.prompt + episode.answer])).logits[0] / temperature
    at = len(episode.prompt) - 1
    return [torch.log_softmax(logits[at + t], dim=0)[token] for t, token in enumerate(episode.answer)]


def values(critic: torch.nn.Module, episode: Episode) -> list[torch.Tensor]:
    """V(s_0) to V(s_n): before each token of the answer, and after the last one."""
    body = getattr(critic, critic.base_model_prefix)
    hidden = body(torch.tensor([episode.prompt + episode.answer])).last_hidden_state[0]
    first = len(episode.prompt) - 1
    return [critic.score(hidden[first + t])[0] for t in range(len(episode.answer) + 1)]


def rewards(episode: Episode, old: Sequence[float], reference: Sequence[float] | None, beta: float) -> list[float]:
    found = [-beta * (p - q) for p, q in zip(old, reference or old, strict=True)]
    return [*found[:-1], found[-1] + episode.earned]


def whitened(rows: list[list[float]], *, keep_mean: bool) -> list[list[float]]:
    flat = [x for row in rows for x in row]
    mean, deviation = statistics.fmean(flat), statistics.stdev(flat)
    return [[(x - mean) / deviation + (mean if keep_mean else 0.0) for x in row] for row in rows]


def advantages(earned: list[float], worth: list[float], numbers: Numbers, *, goes_on: bool) -> list[float]:
    """Eq. 16: the sum of all later deltas of eq. 9, each discounted by (gamma lambda) to its distance."""
    worth = [*worth[:-1], worth[-1] if goes_on else 0.0]
    deltas = [r + numbers.gamma * worth[t + 1] - worth[t] for t, r in enumerate(earned)]
    decay = numbers.gamma * numbers.lam
    return [sum(decay ** (later - t) * deltas[later] for later in range(t, len(deltas))) for t in range(len(deltas))]


def policy_loss(now: torch.Tensor, old: float, advantage: float, numbers: Numbers) -> torch.Tensor:
    ratio = torch.exp(now - old)
    surrogate = torch.minimum(ratio * advantage, ratio.clamp(1 - numbers.clip_low, 1 + numbers.clip_high) * advantage)
    if numbers.dual and advantage < 0:
        surrogate = surrogate.clamp(min=numbers.dual * advantage)
    return -surrogate


def value_loss(now: torch.Tensor, old: float, target: float, clip: float) -> torch.Tensor:
    moved = old + torch.clamp(now - old, -clip, clip)
    return 0.5 * torch.maximum((now - target) ** 2, (moved - target) ** 2)
