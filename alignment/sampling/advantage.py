"""Advantages of sampled tokens: rewards a token, generalized advantage estimation and whitening. Pure functions.

Shapes: B completions, T token places. `mask` (B, T) is true at the tokens of a completion, its end token included; the
true places of a row are one unbroken run. Whatever stands at the other places changes nothing.
"""

from __future__ import annotations

import torch
from torch import Tensor


def token_rewards(scores: Tensor, penalties: Tensor, mask: Tensor) -> Tensor:
    """(B, T) rewards: each token pays its penalty, and the completion's score arrives at its last token.

    Args:
        scores: one number a completion, shape (B,).
        penalties: what each token costs, shape (B, T), such as the KL coefficient times log p - log q.

    Source: Ziegler et al. 2019, arXiv:1909.08593, eq. 2, with the penalty spread over the tokens that cause it.
    """
    return torch.where(mask, -penalties, 0.0) + torch.where(last_token(mask), scores[:, None], 0.0)


def last_token(mask: Tensor) -> Tensor:
    """(B, T) bool, true at the last token of each completion: its end token where it has one."""
    return mask & ~torch.nn.functional.pad(mask[:, 1:], (0, 1))


def values_to_bootstrap(values: Tensor, mask: Tensor, terminal: Tensor) -> Tensor:
    """Values (B, T + 1) with one step past the end: 0 where the episode is over, else the model's own estimate.

    A completion of n tokens has n + 1 states, so values live on a mask that is one step longer than the tokens' (the
    `padding_mask_p1` of Huang et al. 2024, arXiv:2403.17031); reading a place further would take padding for a state.

    Args:
        values: of the state before each token, and after the last place, shape (B, T + 1).
        terminal: true where nothing can follow the last token, shape (B,).
    """
    before = torch.nn.functional.pad(mask, (0, 1))
    after = torch.nn.functional.pad(last_token(mask), (1, 0))
    return torch.where(before | (after & ~terminal[:, None]), values, 0.0)


def generalized_advantages(
    rewards: Tensor, values: Tensor, mask: Tensor, *, gamma: float, gae_lambda: float
) -> tuple[Tensor, Tensor]:
    """(advantages, returns), both (B, T) and 0 off the mask; returns are what the value model should have said.

    Args:
        rewards: of each token, shape (B, T).
        values: of the state before each token and after the last place, shape (B, T + 1), as `values_to_bootstrap`
            leaves them.
        gamma: discount a token; 1 for completions, which end anyway.
        gae_lambda: 0 trusts the values (little variance), 1 the rewards alone (no bias).

    Source: Schulman et al. 2015, arXiv:1506.02438, eq. 16.
    """
    surprise = rewards + gamma * values[:, 1:] - values[:, :-1]  # delta of eq. 9
    found, following = [], torch.zeros_like(rewards[:, 0])
    for t in reversed(range(rewards.shape[1])):
        following = torch.where(mask[:, t], surprise[:, t] + gamma * gae_lambda * following, 0.0)
        found.append(following)
    advantages = torch.stack(found[::-1], dim=1)
    return advantages, torch.where(mask, advantages + values[:, :-1], 0.0)


def whiten(values: Tensor, mask: Tensor, *, shift_mean: bool = True, epsilon: float = 1e-8) -> Tensor:
    """(B, T) values with variance 1 over the mask, and mean 0 unless the mean is to stay; 0 off the mask.

    Taken over a whole rollout batch: over minibatches of it the same token would be worth more in one than in another.
    Rewards keep their mean, whose sign says whether ending was better than going on.

    Source: Huang et al. 2024, arXiv:2403.17031, details 18 and 21; unbiased variance as there.
    """
    inside = values[mask]
    if inside.numel() < 2:
        raise ValueError(f"whitening needs at least 2 tokens, got {inside.numel()}")
    mean = inside.mean()
    whitened = (values - mean) * torch.rsqrt(inside.var(unbiased=True) + epsilon)
    return torch.where(mask, whitened if shift_mean else whitened + mean, 0.0)


def group_advantages(rewards: Tensor, baseline: str, *, epsilon: float = 1e-4) -> Tensor:
    """Advantages (P, G) of G completions of each of P prompts, from the group alone: no value model is needed.

    Args:
        rewards: shape (P, G), G at least 2.
        baseline: "normalized": the reward minus the group's mean, over its standard deviation (unbiased) plus epsilon
            (Shao et al. 2024, arXiv:2402.03300, section 4.1.2); "centred": minus the mean only, so that a prompt on
            which all completions are nearly alike does not weigh as much as the others (Liu et al. 2025,
            arXiv:2503.20783, section 3.2); "leave_one_out": minus the mean of the other completions, which is no
            function of the completion itself, so the gradient is unbiased (Kool et al. 2019; Ahmadian et al. 2024,
            arXiv:2402.14740, eq. 8).
    """
    if rewards.ndim != 2 or rewards.shape[1] < 2:
        raise ValueError(f"a group needs at least 2 completions, got rewards of shape {tuple(rewards.shape)}")
    centred = rewards - rewards.mean(1, keepdim=True)
    if baseline == "centred":
        return centred
    if baseline == "normalized":
        return centred / (rewards.std(1, keepdim=True) + epsilon)
    if baseline == "leave_one_out":
        return centred * rewards.shape[1] / (rewards.shape[1] - 1)
    raise ValueError(f"a baseline is normalized, centred or leave_one_out, not {baseline!r}")
