"""The stage `safe`: the highest reward whose mean cost stays within a limit, by a Lagrange multiplier, on top of grpo.

Inputs: those of grpo, and a cost model for each term of the cost that asks for one. The multiplier is the price of the
cost: it rises after every rollout that costs more than the limit, and falls after one that costs less.
Source: Dai et al. 2023, arXiv:2310.12773 (Safe RLHF).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor

from alignment.config import Job, SafeConfig
from alignment.config.online import Cost
from alignment.grpo import group_relative, penalized_reward, train
from alignment.online import More, Rollout, finish, held_out_watch, open_setting
from alignment.sampling.control import Multiplier
from alignment.sampling.rewards import Source, reward_sources
from alignment.sampling.rollouts import Completion


def run(job: Job, config: SafeConfig) -> dict[str, Any]:
    """Train to the end and write the checkpoint. Inputs: parent; reward, cost, snapshot as the config asks for them."""
    setting, multiplier = open_setting(job, config), multiplier_of(config.cost)
    sources = reward_sources(job, config.cost.terms, max_length=config.reward.max_length)

    def advantage(rollout: Rollout, beta: float) -> tuple[Tensor, dict[str, float]]:
        rewards = penalized_reward(rollout, config, beta)
        costs = costs_of(rollout.completions, sources).to(rewards.device)
        multiplier.update(costs.mean().item())
        price = multiplier.value
        combined = constrained(group_relative(rewards, config), group_relative(costs, config), price)
        return combined, {"cost": costs.mean().item(), "cost_multiplier": price}

    watch = held_out_watch(setting, config, job.seed, held_out_value(config.cost, sources), key="held_out_value")
    facts = train(job, config, setting, advantage, watch, parts={"multiplier": multiplier})
    return finish(job, config, setting, facts)


def multiplier_of(how: Cost) -> Multiplier:
    return Multiplier(limit=how.limit, start=how.start, rate=how.rate, most=how.most)


def held_out_value(how: Cost, sources: Sequence[Source]) -> More:
    """The figure that chooses the best weights: the reward, minus the highest price for a cost over the limit."""

    def more(completions: Sequence[Completion], reward: float) -> dict[str, float]:
        cost = costs_of(completions, sources).mean().item()
        excess = max(0.0, cost - how.limit)
        return {"held_out_cost": cost, "held_out_value": reward - how.most * excess}

    return more


def costs_of(completions: Sequence[Completion], sources: Sequence[Source]) -> Tensor:
    """(N,) weighted sums of the terms of the cost."""
    return sum(source.weight * source.score(completions) for source in sources)


def constrained(reward: Tensor, cost: Tensor, multiplier: Tensor | float) -> Tensor:
    """Advantages of the Lagrangian, (A_r - lambda A_c) / (1 + lambda), of the shape of both advantages.

    The division keeps the size of a step as the price rises.
    """
    return (reward - multiplier * cost) / (1 + multiplier)
