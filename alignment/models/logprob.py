"""Log-probabilities of given tokens under a causal language model."""

from __future__ import annotations

from typing import Any

import torch
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint
from transformers import PreTrainedModel

from alignment.models.packing import text_states

CHUNK_LOGITS = 2**25  # logits held at a time: 128 MiB in fp32


def hidden_states(
    model: PreTrainedModel, ids: torch.Tensor, positions: torch.Tensor | None = None
) -> torch.Tensor:
    """(B, T, D) last hidden states of right-padded ids; causal attention alone keeps padding out of real tokens.

    Where positions (B, T) begin again at 0, another text begins in the same row: each sees itself alone.
    """
    return model.base_model(input_ids=ids, position_ids=positions, use_cache=False).last_hidden_state


def token_logprobs(
    hidden: torch.Tensor, targets: torch.Tensor, weight: torch.Tensor, temperature: float = 1.0
) -> torch.Tensor:
    """(N,) log-probabilities in nats of targets (N,) given hidden (N, D) and the head's weight (V, D).

    log-sum-exp runs in fp32 whatever the head's precision. Large inputs go in chunks that are computed again in the
    backward pass, so N x V logits are never all held.
    """
    rows = max(1, CHUNK_LOGITS // weight.shape[0])
    if len(targets) <= rows:
        return _head_logprobs(hidden, targets, weight, temperature)
    parts = [
        checkpoint(_head_logprobs, h, t, weight, temperature, use_reentrant=False, preserve_rng_state=False)
        for h, t in zip(hidden.split(rows), targets.split(rows), strict=True)
    ]
    return torch.cat(parts)


def _head_logprobs(
    hidden: torch.Tensor, targets: torch.Tensor, weight: torch.Tensor, temperature: float
) -> torch.Tensor:
    logits = F.linear(hidden, weight)  # (N, V)
    return ChosenLogprobs.apply(logits, targets, temperature)


class ChosenLogprobs(torch.autograd.Function):
    """log softmax(logits / temperature) at the targets, in fp32, holding one matrix of the logits' size.

    torch's own cross-entropy holds the logits, their logarithms and two gradients. Its gradient for the logits is
    (one-hot - softmax) / temperature (Bishop 2006, "Pattern recognition and machine learning", eq. 4.106).
    """

    @staticmethod
    def forward(ctx: Any, logits: torch.Tensor, targets: torch.Tensor, temperature: float) -> torch.Tensor:
        shares = logits.float() if temperature == 1 else logits.float().div(temperature)  # fp32 logits are reused:
        shares = shares.sub_(shares.amax(1, keepdim=True))  # nobody reads them again
        chosen = shares.gather(1, targets[:, None])[:, 0]
        total = shares.exp_().sum(1, keepdim=True)
        ctx.save_for_backward(shares.div_(total), targets)
        ctx.temperature, ctx.kind = temperature, logits.dtype
        return chosen - total[:, 0].log()

    @staticmethod
    def backward(ctx: Any, gradient: torch.Tensor) -> tuple[torch.Tensor, None, None]:
        shares, targets = ctx.saved_tensors
        scaled = (-gradient / ctx.temperature)[:, None]
        return shares.mul_(scaled).scatter_add_(1, targets[:, None], -scaled).to(ctx.kind), None, None


def completion_logprobs(
    model: PreTrainedModel,
    ids: torch.Tensor,
    mask: torch.Tensor,
    completion_mask: torch.Tensor,
    temperature: float = 1.0,
) -> torch.Tensor:
    """(B, T-1) log-probabilities in nats of ids[:, 1:], zero off the completion; their row sums are DPO's log p.

    ids (B, T) are right-padded; mask is true at real tokens, completion_mask at completion tokens. Only positions
    that predict a completion token pass the vocabulary head, and what rows begin with alike passes the model once.
    Raises ValueError for left padding.
    """
    if (mask[:, 1:] & ~mask[:, :-1]).any():
        raise ValueError("completion_logprobs takes right-padded rows: a real token follows padding")
    wanted = (completion_mask & mask)[:, 1:]  # (B, T-1): position t predicts token t + 1
    states, places = text_states(model, ids, mask)
    hidden = states.index_select(0, places[:, :-1][wanted])  # (N, D)
    logprobs = token_logprobs(hidden, ids[:, 1:][wanted], model.get_output_embeddings().weight, temperature)
    return torch.zeros(wanted.shape, dtype=torch.float32, device=ids.device).masked_scatter(wanted, logprobs)
