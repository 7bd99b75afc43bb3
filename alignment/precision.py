"""Whether matrix products run in fp32 or bf16. Weights, gradients, losses and optimizer state stay fp32."""

from __future__ import annotations

import time
from typing import Any

import torch
from transformers import AttentionInterface, AttentionMaskInterface, PreTrainedModel
from transformers.masking_utils import sdpa_mask

BLOCK = 256  # query rows a block: later blocks alone see all keys, so a quarter or more of the products is saved
WORTH_IT = 1.5  # bf16 is less exact, so "auto" takes it only where products are this many times faster


def autocast(precision: str) -> torch.autocast:
    """The context in which a forward pass runs; does nothing for fp32."""
    kind = "cuda" if torch.cuda.is_available() else "cpu"
    return torch.autocast(kind, torch.bfloat16, enabled=precision == "bf16")


def chosen_precision(precision: str) -> str:
    """fp32 or bf16; "auto" measures a matrix product of either kind first (a tenth of a second)."""
    if precision != "auto":
        return precision
    return "bf16" if _seconds(torch.float32) > WORTH_IT * _seconds(torch.bfloat16) else "fp32"


def _seconds(dtype: torch.dtype) -> float:
    """Best of five products of the shape that training spends most of its time in."""
    kind = "cuda" if torch.cuda.is_available() else "cpu"
    left, right = (torch.randn(2048, 512, dtype=dtype, device=kind) for _ in range(2))
    times = []
    for _ in range(6):
        started = time.perf_counter()
        (left @ right.T).sum().item()
        times.append(time.perf_counter() - started)
    return min(times[1:])


def blockwise_attention(
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    scaling: float | None = None,
    **_: Any,
) -> tuple[torch.Tensor, None]:
    """Causal attention as plain products; query, key, value (B, H, T, D). Raises ValueError for a mask.

    torch's CPU flash kernel is several times slower than this in bf16 (and faster in fp32, where it stays).
    """
    if attention_mask is not None:
        raise ValueError("blockwise attention is causal over whole rows and takes no mask")
    groups = query.shape[1] // key.shape[1]
    key, value = key.repeat_interleave(groups, 1), value.repeat_interleave(groups, 1)
    query = query * (scaling or query.shape[-1] ** -0.5)
    length = query.shape[2]
    blocks = [_block(query, key, value, i, min(i + BLOCK, length)) for i in range(0, length, BLOCK)]
    return torch.cat(blocks, dim=2).transpose(1, 2).contiguous(), None


def _block(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, start: int, end: int) -> torch.Tensor:
    scores = query[:, :, start:end] @ key[:, :, :end].transpose(-1, -2)  # (B, H, end - start, end)
    future = torch.full(scores.shape[-2:], float("-inf"), dtype=scores.dtype, device=scores.device).triu(1 + start)
    return torch.softmax(scores + future, dim=-1) @ value[:, :, :end]


def blockwise_mask(*args: Any, attention_mask: torch.Tensor | None = None, **more: Any) -> torch.Tensor | None:
    """None for rows without padding, also while torch.compile traces (where sdpa_mask always makes one)."""
    return None if attention_mask is None else sdpa_mask(*args, attention_mask=attention_mask, **more)


AttentionInterface.register("blockwise", blockwise_attention)
AttentionMaskInterface.register("blockwise", blockwise_mask)


def prepare(model: PreTrainedModel, precision: str) -> str:
    """Set the attention that suits the precision and return the precision chosen."""
    chosen = chosen_precision(precision)
    if chosen == "bf16" and not torch.cuda.is_available():
        model.set_attn_implementation("blockwise")
    return chosen
