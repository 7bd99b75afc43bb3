"""The stage `grpo`: policy gradients whose baseline is the group, the other completions of the same prompt.

Inputs: parent; a reward model for each term of the reward that asks for one; snapshot where no prompts are named.
The loss has a name: grpo, dapo, dr_grpo, gspo or rloo (see alignment.losses.policy.VARIANTS for their papers).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor
from transformers import PreTrainedModel

from alignment import devices
from alignment.config import GRPOConfig, Job
from alignment.data.batches import MICRO_TOKENS
from alignment.loop import Watch
from alignment.losses.policy import VARIANTS, clipped_policy, is_clipped, kl_estimate, log_ratio, loss_weights
from alignment.models.precision import autocast
from alignment.online import (
    Rollout,
    Setting,
    completion_kl,
    finish,
    held_out_watch,
    learn_from_rollouts,
    open_setting,
    steer,
)
from alignment.sampling.advantage import group_advantages
from alignment.sampling.control import KLController
from alignment.sampling.rollouts import (
    batch_logprobs,
    batch_of,
    passes_of,
    require_agreement,
    rows_of,
)
from alignment.state import Part

# A rollout and the weight of the KL to (N,) advantages, and what there is to say of them.
Advantage = Callable[[Rollout, float], tuple[Tensor, dict[str, float]]]


def run(job: Job, config: GRPOConfig) -> dict[str, Any]:
    """Train to the end and write the checkpoint. Inputs: parent; reward, snapshot as the config asks for them."""
    setting = open_setting(job, config)

    def advantage(rollout: Rollout, beta: float) -> tuple[Tensor, dict[str, float]]:
        return group_relative(penalized_reward(rollout, config, beta), config), {}

    watch = held_out_watch(setting, config, job.seed)
    return finish(job, config, setting, train(job, config, setting, advantage, watch))


def penalized_reward(rollout: Rollout, config: GRPOConfig, beta: float) -> Tensor:
    """(N,) rewards, minus beta times the KL of the whole completion where it belongs into the reward."""
    reward = rollout.tensors["reward"]
    return reward - beta * completion_kl(rollout.tensors) if config.kl.place == "reward" and beta else reward


def group_relative(rewards: Tensor, config: GRPOConfig) -> Tensor:
    """(N,) advantages of N completions that stand group by group."""
    groups = rewards.view(-1, config.sampling.completions)
    return group_advantages(groups, VARIANTS[config.loss].advantage).flatten()


class GRPOStats(NamedTuple):
    """What one minibatch says. The estimates of the KL are nats a token, under the present weights."""

    loss: float
    clip_share: float  # of the ratios: those whose gradient the clip took away
    ratio_difference: float  # largest |ratio - 1|
    kl_k1_nats: float = 0.0
    kl_k2_nats: float = 0.0
    kl_k3_nats: float = 0.0


def accumulate(
    model: PreTrainedModel,
    tensors: Mapping[str, Tensor],
    config: GRPOConfig,
    *,
    beta: float,
    tokens: int = MICRO_TOKENS,
    untouched: bool = False,
    precision: str = "fp32",
) -> GRPOStats:
    """Add the gradient of the loss of a minibatch of a rollout.

    Args:
        tensors: of B completions, with advantage (B,), and reference (B, T) where beta is above 0.
        tokens: how the minibatch is cut into passes changes nothing but memory: the weights are those of all of it.
        untouched: the weights are still those that sampled. Then every ratio must be 1, which is checked.
    """
    learnt, variant = learnt_tokens(tensors, config), VARIANTS[config.loss]
    weights = loss_weights(learnt, variant.average, longest=config.sampling.max_new_tokens)
    tensors = {**tensors, "learnt": learnt, "weights": weights}
    policy, total = torch.zeros_like(tensors["old"]), 0.0
    for group, counts in passes_of(tensors, tokens):
        part = rows_of(tensors, group)
        with autocast(precision):
            logprobs = batch_logprobs(model, batch_of(part), config.sampling.temperature)
        loss = (part["weights"] * token_losses(logprobs, part, config, beta)).sum() * counts
        loss.backward()
        policy[group, : logprobs.shape[1]] += logprobs.detach() * counts
        total += loss.item()
    devices.summed(policy)
    total = devices.summed_number(total)
    if untouched:
        require_agreement(policy, tensors["old"], precision)
    return stats_of(policy, tensors, config, total)


def learnt_tokens(tensors: Mapping[str, Tensor], config: GRPOConfig) -> Tensor:
    """(B, T) bool: the completions' tokens, without those of unfinished completions where they teach nothing."""
    completion = batch_of(tensors).completion
    return completion if config.sampling.learn_unfinished else completion & tensors["finished"][:, None]


def token_losses(logprobs: Tensor, tensors: Mapping[str, Tensor], config: GRPOConfig, beta: float) -> Tensor:
    """(B, T) losses under log-probabilities (B, T); with one ratio a completion all of its tokens say the same."""
    ratios = log_ratio(logprobs, tensors["old"], tensors["learnt"], VARIANTS[config.loss].ratio)
    losses = clipped_policy(ratios, tensors["advantage"][:, None], **limits(config), dual_clip=config.clip.dual)
    losses = losses.expand_as(logprobs) * tensors.get("importance", 1.0)
    if beta and config.kl.place == "loss":
        penalty = kl_estimate(logprobs, tensors["reference"], "k3")
        losses = losses + beta * (penalty * ratios.exp() if config.kl.corrected else penalty)
    return losses


def limits(config: GRPOConfig) -> dict[str, float]:
    variant = VARIANTS[config.loss]
    return {"clip_low": config.clip.low or variant.clip_low, "clip_high": config.clip.high or variant.clip_high}


@torch.no_grad()
def stats_of(policy: Tensor, tensors: Mapping[str, Tensor], config: GRPOConfig, loss: float) -> GRPOStats:
    learnt = tensors["learnt"]
    ratios = log_ratio(policy, tensors["old"], learnt, VARIANTS[config.loss].ratio)
    counted = (learnt if ratios.shape[1] > 1 else learnt.any(1, keepdim=True)).float()
    clipped = is_clipped(ratios, tensors["advantage"][:, None], **limits(config)) * counted
    share = clipped.sum() / counted.sum().clamp(min=1)
    difference = ((ratios.exp() - 1).abs() * counted).max()
    return GRPOStats(loss, share.item(), difference.item(), **kl_figures(policy, tensors))


def kl_figures(policy: Tensor, tensors: Mapping[str, Tensor]) -> dict[str, float]:
    if "reference" not in tensors:
        return {}
    at = batch_of(tensors).completion
    pair = policy[at], tensors["reference"][at]
    return {f"kl_{kind}_nats": kl_estimate(*pair, kind).mean().item() for kind in ("k1", "k2", "k3")}


def train(
    job: Job,
    config: GRPOConfig,
    setting: Setting,
    advantage: Advantage,
    watch: Watch | None,
    parts: Mapping[str, Part] | None = None,
) -> dict[str, Any]:
    """The run, from the saved state where there is one; returns facts for the card."""

    def estimate(made: Rollout, controller: KLController) -> tuple[dict[str, Tensor], dict[str, float]]:
        steer(controller, made)
        found, told = advantage(made, controller.beta)
        return {"advantage": found}, {"kl_beta": controller.beta, **told}

    def update(batch: dict[str, Tensor], beta: float, untouched: bool) -> GRPOStats:
        return accumulate(
            setting.model, batch, config, beta=beta, untouched=untouched, precision=setting.precision
        )

    return learn_from_rollouts(
        job, config, setting, setting.model, estimate=estimate, accumulate=update, watch=watch, parts=parts
    )
