"""Whether matrix products run in fp32 or bf16. Trained weights, gradients, losses and optimizer state stay fp32."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import torch
from transformers import AttentionInterface, AttentionMaskInterface, PreTrainedModel
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

from alignment.config import Job
from alignment.models.adapters import attach
from alignment.models.frozen import hold_in_bf16

BLOCK = 256  # query rows a block: later blocks alone see all keys, so a quarter or more of the products is saved
CHOICE = "precision.txt"  # beside the state: what "auto" came to
WORTH_IT = 1.5  # bf16 is less exact, so "auto" takes it only where products are this many times faster


def autocast(precision: str) -> torch.autocast:
    """The context in which a forward pass runs; does nothing for fp32."""
    kind = "cuda" if torch.cuda.is_available() else "cpu"
    return torch.autocast(kind, torch.bfloat16, enabled=precision == "bf16")


def chosen_precision(precision: str, job: Job) -> str:
    """fp32 or bf16; "auto" measures a matrix product of either kind first (a tenth of a second).

    A resumed run keeps what its first attempt chose: measured again on a busy machine, it might be the other.
    """
    if precision != "auto":
        return precision
    earlier = Path(job.resume_from or job.output) / CHOICE
    noted = earlier.read_text() if job.resume_from and earlier.is_file() else ""
    chosen = noted or _faster()  # a kill may have left nothing in the file: then no step was taken
    (Path(job.output) / CHOICE).write_text(chosen)
    return chosen


def _faster() -> str:
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
    **more: Any,
) -> tuple[torch.Tensor, None]:
    """Causal attention as plain products; query, key, value (B, H, T, D). With a mask or a cache: torch's own.

    torch's CPU flash kernel is several times slower than this in bf16 (and faster in fp32, where it stays).
    """
    if attention_mask is not None or query.shape[2] != key.shape[2]:
        return sdpa_attention_forward(module, query, key, value, attention_mask, scaling=scaling, **more)
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


def blockwise_mask(
    *,
    kv_length: int,
    attention_mask: torch.Tensor | None = None,
    local_size: int | None = None,
    allow_is_causal_skip: bool = True,
    **more: Any,
) -> torch.Tensor | None:
    """None for rows without padding, also while torch.compile traces (where sdpa_mask always makes one).

    Packed rows, which transformers finds by their positions, and windows shorter than the row need their mask.
    """
    causal = allow_is_causal_skip or torch.compiler.is_compiling()
    if attention_mask is None and causal and (local_size is None or kv_length <= local_size):
        return None
    given = {"kv_length": kv_length, "attention_mask": attention_mask, "local_size": local_size}
    return sdpa_mask(**given, allow_is_causal_skip=allow_is_causal_skip, **more)


AttentionInterface.register("blockwise", blockwise_attention)
AttentionMaskInterface.register("blockwise", blockwise_mask)


def prepare_for_training(model: PreTrainedModel, config: Any, job: Job, *, samples: bool = False) -> str:
    """Make a loaded model ready for `loop.train` as a stage's config asks; every training stage calls this once.

    Attaches `config.lora`, has layers run again in the backward pass where `config.optimization` says
    activation_checkpointing, and sets the attention that suits `config.precision`. The model changes in place;
    `save_checkpoint` merges the adapter. Dropout and the second run of the layers need `model.training`, which
    `loop.train` sees to.

    Args:
        samples: the model also writes text during the run, in fp32. Its frozen weights then stay in fp32: else each
            would be converted for every token.

    Returns:
        The precision chosen, "fp32" or "bf16", for `autocast` around each forward pass.
    """
    if getattr(config, "lora", None):
        attach(model, config.lora, job.seed)
    if config.optimization.activation_checkpointing:
        model.activation_checkpointing_enable()
    chosen = chosen_precision(config.precision, job)
    if chosen == "bf16" and getattr(config, "lora", None) and not samples:
        hold_in_bf16(model)
    if chosen == "bf16" and not torch.cuda.is_available():
        model.set_attn_implementation("blockwise")
    return chosen
