"""Preference optimisation on pairs: from token ids to a gradient, and the figures that tell how it goes."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from statistics import fmean
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedModel

from alignment import devices
from alignment.data.pairs import FEWEST_SET_ASIDE, EncodedPair
from alignment.losses.preference import (
    direct_preference,
    hinge_preference,
    identity_preference,
    implicit_reward,
    length_margin,
    odds_ratio,
    robust_preference,
    simple_preference,
)
from alignment.models.sequences import Passes, Row, frozen_logprobs, sequence_logprobs


def rows_of(pairs: Sequence[EncodedPair]) -> list[Row]:
    """2B rows: chosen and rejected of each pair beside each other, so that both meet the same pass."""
    return [Row(p.prompt, side) for p in pairs for side in (p.chosen, p.rejected)]


def pair_losses(policy: Tensor, reference: Tensor | None, tokens: Tensor, config: Any) -> Tensor:
    """(B,) losses of pairs; the columns of every argument are chosen and rejected.

    Args:
        policy, reference: log-probabilities (B, 2) in nats, summed over tokens. A loss without a reference takes None.
        tokens: lengths of the completions (B, 2), with their end tokens.
        config: what says `loss`, `beta`, `label_smoothing` and `terms`.
    """
    means = policy / tokens
    losses = preference_term(policy, reference, tokens, config)
    weight = 1.0 if config.loss == "orpo" else config.terms.nll_weight
    return losses - weight * means[:, 0] if weight else losses


def preference_term(policy: Tensor, reference: Tensor | None, tokens: Tensor, config: Any) -> Tensor:
    """(B,) what the pair's order costs: a branch for every loss."""
    chosen_mean, rejected_mean = (policy / tokens).unbind(1)
    if config.loss == "orpo":
        return config.beta * odds_ratio(chosen_mean, rejected_mean)
    if config.loss == "simpo":
        how = {"target_margin": config.terms.target_margin, "label_smoothing": config.label_smoothing}
        return simple_preference(chosen_mean, rejected_mean, beta=config.beta, **how)
    if config.loss == "ipo":
        return identity_preference(difference((policy - reference) / tokens), beta=config.beta)
    margin = difference(implicit_reward(policy, reference, beta=config.beta))
    margin = margin + length_margin(*tokens.unbind(1), length_penalty=config.terms.length_penalty)
    if config.loss == "hinge":
        return hinge_preference(margin)
    if config.loss == "robust":
        return robust_preference(margin, label_smoothing=config.label_smoothing)
    return direct_preference(margin, label_smoothing=config.label_smoothing)


def difference(sides: Tensor) -> Tensor:
    """(B,) chosen minus rejected of (B, 2)."""
    return sides[:, 0] - sides[:, 1]


def accumulate(
    model: PreTrainedModel,
    pairs: Sequence[EncodedPair],
    reference: Tensor | None,
    weights: Tensor,
    config: Any,
    passes: Passes,
    observe: Callable[[Tensor], None] | None = None,
) -> dict[str, float]:
    """Add the gradient of the weighted mean loss of B pairs with weights (B,); returns the step's figures.

    How the pairs are cut into passes changes nothing but memory.

    Args:
        observe: is told the losses (B,) of the pairs, without a graph.
    """
    policy, losses = torch.zeros(len(pairs), 2, device=model.device), torch.zeros(len(pairs), device=model.device)
    shares = (weights / weights.sum()).to(model.device)
    for group, counts in devices.deal([p.packed_tokens for p in pairs], range(len(pairs)), passes.tokens):
        some = [pairs[i] for i in group]
        logprobs = sequence_logprobs(model, rows_of(some), passes).view(-1, 2)
        known = None if reference is None else reference[group]
        found = pair_losses(logprobs, known, lengths_of(some, logprobs), config)
        (found * shares[group]).sum().mul(counts).backward()
        policy[group] += logprobs.detach() * counts
        losses[group] += found.detach() * counts
    devices.summed(policy)
    devices.summed(losses)
    if observe:
        observe(losses)
    mean = (losses * shares).sum().item()
    return {loss_key(config.loss): mean, **figures(policy, reference, lengths_of(pairs, policy), config)}


def lengths_of(pairs: Sequence[EncodedPair], like: Tensor) -> Tensor:
    """(B, 2) tokens of the completions, in the type and on the device of `like`."""
    return like.new_tensor([[len(p.chosen), len(p.rejected)] for p in pairs])


def loss_key(loss: str) -> str:
    """The name of a loss in the metrics: not all of them are likelihoods."""
    return "loss" if loss in {"hinge", "ipo", "kto"} else "loss_nats"


def figures(policy: Tensor, reference: Tensor | None, tokens: Tensor, config: Any) -> dict[str, float]:
    """How a batch stands.

    Returns:
        accuracy: share of pairs whose implicit rewards rank them as labeled, 0 to 1; equal ones count half.
        margin, chosen_reward, rejected_reward: means of the implicit rewards; without a reference, of beta times the
            log-probability a token.
        chosen_logp_nats, rejected_logp_nats: means over completions. A falling chosen_logp_nats is the first sign of
            trouble: both sides of a pair can lose together.
        chosen_drop_nats: how much of it was lost to the reference, on average.
        log_ratio_nats: mean of policy over reference on both sides; not a KL: these are not the policy's samples.
    """
    free = reference is None
    rewards = config.beta * policy / tokens if free else implicit_reward(policy, reference, beta=config.beta)
    found = {
        "accuracy": ((difference(rewards).sign() + 1) / 2).mean(),
        "margin": difference(rewards).mean(),
        "chosen_logp_nats": policy[:, 0].mean(),
        "rejected_logp_nats": policy[:, 1].mean(),
        "chosen_reward": rewards[:, 0].mean(),
        "rejected_reward": rewards[:, 1].mean(),
    }
    if not free:
        found["log_ratio_nats"] = (policy - reference).mean()
        found["chosen_drop_nats"] = (reference - policy)[:, 0].mean()
    return {name: value.item() for name, value in found.items()}


@torch.no_grad()
def measure(
    model: PreTrainedModel, pairs: Sequence[EncodedPair], reference: Tensor | None, config: Any, passes: Passes
) -> dict[str, float]:
    """The loss and the accuracy on held-out pairs; with weights that follow the worst-off group also its loss."""
    policy = frozen_logprobs(model, rows_of(pairs), passes).view(-1, 2)
    tokens = lengths_of(pairs, policy)
    losses, found = pair_losses(policy, reference, tokens, config), figures(policy, reference, tokens, config)
    worst = {}
    if config.mitigation.group_rate:
        worst["validation_worst_loss"] = worst_off(losses.tolist(), [pair.group for pair in pairs])
    return {"validation_loss": losses.mean().item(), **worst, "validation_accuracy": found["accuracy"]}


def worst_off(losses: Sequence[float], groups: Sequence[str]) -> float:
    """Mean loss of the worst-off group that has enough rows to tell; of all rows where none has."""
    by_group: dict[str, list[float]] = defaultdict(list)
    for loss, group in zip(losses, groups, strict=True):
        by_group[group].append(loss)
    means = [fmean(found) for found in by_group.values() if len(found) >= FEWEST_SET_ASIDE]
    return max(means, default=fmean(losses))
