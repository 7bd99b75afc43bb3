"""What makes another engine's completions fit for a policy gradient: our own log-probabilities, and weights."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from alignment.config import JobError
from alignment.config.server import Server
from alignment.losses.policy import truncated_importance
from alignment.sampling.rollouts import Completion, batch_of


def correct(
    tensors: dict[str, Tensor], old: Tensor, completions: Sequence[Completion], how: Server, number: int
) -> dict[str, float]:
    """Put the trainer's log-probabilities (N, T) in the place of the server's, and add what the updates need.

    Adds sampled (N, T), the server's log-probabilities as it said them; importance (N, T), the weight of each token;
    version (N,), of the policy that wrote it. Returns figures. Raises JobError where the two cannot be of one policy.
    """
    sampled, at = tensors["old"], batch_of(tensors).completion
    versions = torch.tensor([made.sample.version for made in completions], device=old.device)
    difference = (old - sampled)[at].abs()
    if (versions == number).all():  # else they are meant to differ
        require_one_policy(difference.mean().item(), how)
    weights = truncated_importance(old, sampled, at, how.importance_cap)
    tensors |= {"old": old, "sampled": sampled, "importance": weights, "version": versions}
    return {
        "sampler_difference_nats": difference.mean().item(),
        "sampler_difference_max_nats": difference.max().item(),
        "truncated_share": ((old - sampled)[at] > math.log(how.importance_cap)).float().mean().item(),
        "staleness": number - versions.float().mean().item(),
    }


def require_one_policy(difference: float, how: Server) -> None:
    """Raise JobError where the log-probabilities of the same tokens and weights differ by more than rounding."""
    if not difference <= how.max_difference_nats:
        raise JobError(
            f"the rollout server and the trainer differ by {difference:.3g} nats a token on the same weights, at most "
            f"{how.max_difference_nats:g} is allowed (sampling.server.max_difference_nats): start vLLM with "
            "--logprobs-mode processed_logprobs, and with the parent's dtype"
        )
