"""Frozen weights of a model with an adapter in half the memory, where that costs not a single bit."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F
from transformers import PreTrainedModel


class HalfLinear(torch.nn.Linear):
    """A linear layer whose weight is held in bf16; a product that is asked for in fp32 is one in fp32."""

    def forward(self, x: Tensor) -> Tensor:
        lowered = torch.is_autocast_enabled(x.device.type)
        return F.linear(x, self.weight if lowered else self.weight.to(x.dtype), self.bias)


@torch.no_grad()
def hold_in_bf16(model: PreTrainedModel) -> PreTrainedModel:
    """Hold the frozen weights of the body's linear layers in bf16, in place, where bf16 can say them exactly.

    It can where the parent was stored in bf16, as most are. Weights that have more digits stay in fp32: rounded, they
    would make another reference, and a merged checkpoint that is not the parent's weights plus the adapter. Embeddings
    and norms stay too: their products are no matrix products, which autocast would lower.
    """
    for module in model.base_model.modules():
        if type(module) is torch.nn.Linear and not module.weight.requires_grad and _exact(module.weight):
            module.weight.data = module.weight.data.bfloat16()
            module.__class__ = HalfLinear
    return model


def _exact(weight: Tensor) -> bool:
    return weight.dtype == torch.float32 and torch.equal(weight.bfloat16().float(), weight)


@torch.no_grad()
def hold_in_fp32(model: PreTrainedModel) -> PreTrainedModel:
    """Undo `hold_in_bf16`, in place: nothing was lost."""
    for module in model.modules():
        if isinstance(module, HalfLinear):
            module.weight.data = module.weight.data.float()
            module.__class__ = torch.nn.Linear
    return model
