"""The stage `safe_ppo`: the highest reward whose mean cost stays within a limit, on top of ppo, with two value models.

Inputs: those of ppo, and a cost model for each term of the cost that asks for one. Reward and cost each have advantages
of their own; their Lagrangian is what the policy learns from, and it alone is whitened, so that the multiplier weighs
the two in their own units.
Source: Dai et al. 2023, arXiv:2310.12773 (Safe RLHF), section 3.2.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor

from alignment.config import Job, SafePPOConfig
from alignment.online import Rollout, finish, held_out_watch, open_setting
from alignment.ppo import advantages_of, train, value_model
from alignment.safe import constrained, costs_of, held_out_value, multiplier_of
from alignment.sampling.advantage import whiten
from alignment.sampling.rewards import reward_sources
from alignment.sampling.rollouts import batch_of
from alignment.sampling.values import PolicyAndValue


def run(job: Job, config: SafePPOConfig) -> dict[str, Any]:
    """Train to the end and write the checkpoint of the policy. Inputs: parent; reward, cost, snapshot as asked for."""
    setting, multiplier = open_setting(job, config), multiplier_of(config.cost)
    sources = reward_sources(job, config.cost.terms, max_length=config.reward.max_length)
    values = [
        value_model(job, config, setting, terms, judge)
        for terms, judge in ((config.reward.terms, "reward"), (config.cost.terms, "cost"))
    ]
    model = PolicyAndValue(setting.model, *values)

    def learn(rollout: Rollout, beta: float) -> tuple[dict[str, Tensor], dict[str, float]]:
        costs = costs_of(rollout.completions, sources).to(setting.model.device)
        multiplier.update(costs.mean().item())
        reward = advantages_of(model.value, rollout.tensors, rollout.tensors["reward"], config, beta=beta)
        cost = advantages_of(model.cost_value, rollout.tensors, costs, config, beta=0.0)
        advantage = constrained(reward.advantage, cost.advantage, multiplier.value)
        tensors = {
            "advantage": whiten(advantage, batch_of(rollout.tensors).completion),
            "value": reward.value,
            "value_return": reward.returns,
            "cost_value": cost.value,
            "cost_value_return": cost.returns,
        }
        return tensors, {"cost": costs.mean().item(), "cost_multiplier": multiplier.value}

    watch = held_out_watch(setting, config, job.seed, held_out_value(config.cost, sources), key="held_out_value")
    return finish(job, config, setting, train(job, config, setting, model, learn, watch, {"multiplier": multiplier}))
