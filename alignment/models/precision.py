"""Whether matrix products run in fp32 or bf16. Trained weights, gradients, losses and optimizer state stay fp32."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import torch
from transformers import PreTrainedModel

import alignment.models.attention  # noqa: F401, registers the kinds of attention
from alignment import devices
from alignment.config import Job
from alignment.models.adapters import attach
from alignment.models.frozen import hold_in_bf16

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
    return devices.first(lambda: _measured(job)) if precision == "auto" else precision


def _measured(job: Job) -> str:
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
