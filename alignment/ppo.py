"""The stage `ppo`: proximal policy optimisation with a value model (Schulman et al. 2017, arXiv:1707.06347).

Inputs: parent; a reward model for each term of the reward that asks for one; snapshot where no prompts file is named. A
rollout is sampled and judged once, and learnt from in several passes of minibatches. The details are those that Huang
et al. 2024 (arXiv:2403.17031) found to matter; where a function has one of them, it says so.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor
from transformers import PreTrainedModel

from alignment import devices
from alignment.config import REWARD, Job, JobError, PPOConfig
from alignment.config.online import RewardTerm
from alignment.data.batches import MICRO_TOKENS
from alignment.loop import Watch
from alignment.losses.policy import clipped_policy, is_clipped, kl_estimate, log_ratio, loss_weights
from alignment.losses.value import clipped_value_loss, clipped_values
from alignment.models.checkpoints import evaluating
from alignment.models.precision import autocast, prepare_for_training
from alignment.models.sharding import whole
from alignment.online import (
    Rollout,
    Setting,
    finish,
    held_out_watch,
    learn_from_rollouts,
    open_setting,
    steer,
)
from alignment.sampling.advantage import generalized_advantages, token_rewards, values_to_bootstrap, whiten
from alignment.sampling.control import KLController
from alignment.sampling.rollouts import (
    batch_logprobs,
    batch_of,
    passes_of,
    require_agreement,
    rows_of,
)
from alignment.sampling.values import (
    PolicyAndValue,
    rollout_values,
    state_values,
    value_from_policy,
    value_from_reward,
)
from alignment.state import Part

# A rollout and the KL's weight to the tensors that its updates learn from, and further figures.
Learn = Callable[[Rollout, float], tuple[dict[str, Tensor], dict[str, float]]]


def run(job: Job, config: PPOConfig) -> dict[str, Any]:
    """Train to the end and write the checkpoint of the policy. Inputs: parent; reward, snapshot as the config asks."""
    setting = open_setting(job, config)
    model = PolicyAndValue(setting.model, value_model(job, config, setting, config.reward.terms))

    def learn(rollout: Rollout, beta: float) -> tuple[dict[str, Tensor], dict[str, float]]:
        return estimate(model.value, rollout.tensors, config, beta=beta), {}

    facts = train(job, config, setting, model, learn, held_out_watch(setting, config, job.seed))
    return finish(job, config, setting, facts)


def value_model(
    job: Job, config: PPOConfig, setting: Setting, terms: Sequence[RewardTerm], judge: str = "reward"
) -> PreTrainedModel:
    """The value of what the input `judge` gives, by the head that is read, with an adapter if the policy has one."""
    if config.value.source == "policy":
        model = value_from_policy(job.input_path("parent"))
    elif judge in job.inputs:
        head = next((term.head for term in terms if term.kind == "model" and term.input == judge), REWARD)
        model = value_from_reward(job.input_path(judge), setting.tokenizer, head)
    else:
        raise JobError(f"a value model begins as the input {judge!r}, which is not given; set value.source to policy")
    prepare_for_training(model, config, job)
    return model


def train(
    job: Job,
    config: PPOConfig,
    setting: Setting,
    model: PolicyAndValue,
    learn: Learn,
    watch: Watch | None,
    parts: Mapping[str, Part] | None = None,
) -> dict[str, Any]:
    """The run, from the saved state where there is one; returns facts for the card."""

    def estimated(made: Rollout, controller: KLController) -> tuple[dict[str, Tensor], dict[str, float]]:
        beta = controller.beta
        with evaluating(model.value), whole(model), autocast(setting.precision):
            learnt, told = learn(made, beta)
        del made.figures["uniform_share"]  # there are no groups
        steer(controller, made)
        return learnt, {**value_figures(learnt, made.tensors), "kl_beta": beta, **told}

    def update(batch: dict[str, Tensor], beta: float, untouched: bool) -> PPOStats:
        return accumulate(model, batch, config, untouched=untouched, precision=setting.precision)

    return learn_from_rollouts(
        job, config, setting, model, estimate=estimated, accumulate=update, watch=watch, parts=parts
    )


@torch.no_grad()
def estimate(
    value: PreTrainedModel, tensors: Mapping[str, Tensor], config: PPOConfig, *, beta: float
) -> dict[str, Tensor]:
    """What a rollout's updates learn from: advantage, value and value_return, each (N, T), under its value model.

    Rewards and advantages are whitened over the whole rollout, never over a minibatch of it.
    """
    found = advantages_of(value, tensors, tensors["reward"], config, beta=beta)
    advantage = whiten(found.advantage, batch_of(tensors).completion)
    return {"advantage": advantage, "value": found.value, "value_return": found.returns}


class Estimate(NamedTuple):
    """Of N completions, each (N, T) and 0 off their tokens."""

    advantage: Tensor
    value: Tensor
    returns: Tensor


@torch.no_grad()
def advantages_of(
    value: PreTrainedModel, tensors: Mapping[str, Tensor], earned: Tensor, config: PPOConfig, *, beta: float
) -> Estimate:
    """The advantages of what each completion earned (N,), not yet whitened.

    Every token pays beta times its own log-ratio to the reference (k1, unbiased), and the reward comes at the last
    token, the end token where there is one.
    """
    how, completion = config.advantage, batch_of(tensors).completion
    penalties = torch.zeros_like(tensors["old"])
    if "reference" in tensors:
        penalties = beta * kl_estimate(tensors["old"], tensors["reference"], "k1")
    rewards = token_rewards(earned, penalties, completion)
    if how.whiten_rewards:
        rewards = whiten(rewards, completion, shift_mean=False)
    terminal = tensors["finished"] if how.bootstrap_unfinished else torch.ones_like(tensors["finished"])
    values = values_to_bootstrap(rollout_values(value, tensors), completion, terminal)
    advantages, returns = generalized_advantages(
        rewards, values, completion, gamma=how.gamma, gae_lambda=how.gae_lambda
    )
    return Estimate(advantages, values[:, :-1], returns)


def value_figures(learnt: Mapping[str, Tensor], tensors: Mapping[str, Tensor]) -> dict[str, float]:
    """Mean return, and the share of its variance that the values explain: 1 is perfect, 0 is no better than a mean."""
    at = batch_of(tensors).completion
    returns, errors = learnt["value_return"][at], (learnt["value_return"] - learnt["value"])[at]
    explained = 1 - errors.var(correction=0) / returns.var(correction=0).clamp(min=1e-8)
    return {"return": returns.mean().item(), "explained_variance": explained.item()}


class PPOStats(NamedTuple):
    """What one minibatch says, as means over its tokens."""

    loss: float  # policy_loss plus the coefficient times value_loss
    policy_loss: float
    value_loss: float  # half the squared error, in squared units of the reward, summed over the value models
    clip_share: float  # of the tokens: those whose gradient the policy's clip took away
    value_clip_share: float
    ratio_difference: float  # largest |ratio - 1|
    moved_nats: float  # k3 estimate of the KL from the policy that sampled, a token


def accumulate(
    model: PolicyAndValue,
    tensors: Mapping[str, Tensor],
    config: PPOConfig,
    *,
    tokens: int = MICRO_TOKENS,
    untouched: bool = False,
    precision: str = "fp32",
) -> PPOStats:
    """Add the gradient of the loss of a minibatch of a rollout to the policy and to every value model.

    Args:
        tensors: of B completions, with what `estimate` found for them.
        tokens: how the minibatch is cut into passes changes nothing but memory: a token weighs one over all of them.
        untouched: the weights are still those that sampled. Then every ratio must be 1, which is checked.
    """
    completion = batch_of(tensors).completion
    tensors = {**tensors, "weights": loss_weights(completion, "token_mean")}
    policy = torch.zeros_like(tensors["old"])
    values = {name: torch.zeros_like(policy) for name in model.value_models}
    for group, counts in passes_of(tensors, tokens):
        part = rows_of(tensors, group)
        batch = batch_of(part)
        with autocast(precision):
            logprobs = batch_logprobs(model.policy, batch, config.sampling.temperature)
            found = {name: state_values(critic, batch)[:, :-1] for name, critic in model.value_models.items()}
        policy_loss, value_loss = losses(logprobs, found, part, config)
        ((policy_loss + value_loss) * counts).backward()
        width = logprobs.shape[1]
        policy[group, :width] += logprobs.detach() * counts
        for name, said in found.items():
            values[name][group, :width] += said.detach() * counts
    for tensor in (policy, *values.values()):
        devices.summed(tensor)
    if untouched:
        require_agreement(policy, tensors["old"], precision)
    return stats_of(policy, values, tensors, config)


def losses(
    logprobs: Tensor, values: Mapping[str, Tensor], tensors: Mapping[str, Tensor], config: PPOConfig
) -> tuple[Tensor, Tensor]:
    """(policy's, value models') share of a minibatch's loss, under log-probabilities and named values, all (B, T).

    Off the completion every log-probability is 0, under the policy and the one that sampled alike: the placeholder
    that makes a ratio of 1 and no KL. (Detail 15 of Huang et al. takes 1.)
    """
    ratios = log_ratio(logprobs, tensors["old"], tensors["weights"] > 0)
    clip = {"clip_low": config.clip.low, "clip_high": config.clip.high}
    policy = clipped_policy(ratios, tensors["advantage"], **clip, dual_clip=config.clip.dual)
    policy = policy * tensors.get("importance", 1.0)
    value = sum(
        clipped_value_loss(said, tensors[name], tensors[f"{name}_return"], clip=config.value.clip)
        for name, said in values.items()
    )
    weights = tensors["weights"]
    return (weights * policy).sum(), config.value.coefficient * (weights * value).sum()


@torch.no_grad()
def stats_of(
    policy: Tensor, values: Mapping[str, Tensor], tensors: Mapping[str, Tensor], config: PPOConfig
) -> PPOStats:
    weights = tensors["weights"]
    at = weights > 0
    ratios = log_ratio(policy, tensors["old"], at)
    clipped = is_clipped(ratios, tensors["advantage"], clip_low=config.clip.low, clip_high=config.clip.high)
    stuck = torch.stack([
        clipped_values(said, tensors[name], tensors[f"{name}_return"], clip=config.value.clip)[at]
        for name, said in values.items()
    ])  # fmt: skip
    policy_loss, value_loss = losses(policy, values, tensors, config)
    return PPOStats(
        loss=(policy_loss + value_loss).item(),
        policy_loss=policy_loss.item(),
        value_loss=value_loss.item() / config.value.coefficient,
        clip_share=clipped[at].float().mean().item(),
        value_clip_share=stuck.float().mean().item(),
        ratio_difference=(ratios.exp() - 1).abs().max().item(),
        moved_nats=kl_estimate(policy, tensors["old"], "k3")[at].mean().item(),
    )
