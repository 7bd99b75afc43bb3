"""Weights, gradients and optimizer state cut into as many parts as there are ranks, by torch's FSDP2.

Each decoder layer is brought together just before it runs and let go of afterwards; what is left of a model, such as
its embeddings, is held whole within a pass. Source: Rajbhandari et al. 2019, arXiv:1910.02054 (ZeRO, stage 3).
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh
from torch.distributed.fsdp import FSDPModule, fully_shard
from torch.distributed.tensor import DTensor
from transformers import PreTrainedModel

from alignment import devices
from alignment.config import JobError
from alignment.models.packing import keeps_texts_apart

# A sharded model, and what it was before: the same modules without any memory for their weights.
Blanks = list[tuple[PreTrainedModel, PreTrainedModel]]


def shard(model: torch.nn.Module) -> Blanks:
    """Cut the weights of a model, or of a module's models, in place; nothing on one device. Raises JobError.

    The ranks hold equal weights before, and torch's generators differ between them afterwards.
    """
    if devices.size() == 1:
        return []
    whole = [model] if isinstance(model, PreTrainedModel) else list(model.children())
    for one in whole:
        if not keeps_texts_apart(one):  # it would run once a text: ranks would wait for passes that never come
            kind = type(one).__name__
            raise JobError(f"devices is {devices.size()}: a {kind} trains on one device only; leave it out")
    blanks = [(one, blank_of(one)) for one in whole]
    mesh = init_device_mesh(whole[0].device.type, (devices.size(),))
    for one in whole:
        _shard(one, mesh)
    if devices.rank():  # each draws its own dropout
        torch.manual_seed((torch.initial_seed() + devices.rank() * 0x9E3779B97F4A7C15) % 2**63)
    return blanks


def blank_of(model: PreTrainedModel) -> PreTrainedModel:
    """A copy whose weights have shapes alone; ties between them stay."""
    return copy.deepcopy(model, {id(p): _empty(p) for p in model.parameters()})


def _empty(parameter: torch.nn.Parameter) -> torch.nn.Parameter:
    return torch.nn.Parameter(torch.empty_like(parameter, device="meta"), requires_grad=parameter.requires_grad)


def _shard(model: PreTrainedModel, mesh: DeviceMesh) -> None:
    layers = [module for module in model.modules() if type(module).__name__ in (model._no_split_modules or ())]
    for module in (*layers, model):
        fully_shard(module, mesh=mesh)
        module.set_gradient_divide_factor(1.0)  # losses are divided by all tokens of a step: gradients add up
        module.set_force_sum_reduction_for_comms(True)  # gloo knows no other sum
    for before, layer in zip([*layers[:1], *layers], layers, strict=False):
        layer.set_modules_to_backward_prefetch([before])  # torch's guess counts what one rank did alone
    with torch.no_grad():  # the model is the root: told by the first that runs
        model(input_ids=torch.zeros(1, 1, dtype=torch.long, device=model.device), use_cache=False)
    model.reshard()
    model.base_model.register_forward_pre_hook(lambda *_: _bring_root(model))  # stages call the body, not the model


def _bring_root(model: PreTrainedModel) -> None:
    model.unshard()


@contextmanager
def whole(model: torch.nn.Module) -> Iterator[None]:
    """Every rank holds all weights inside: a forward pass waits for nobody. Nothing for a model that is not sharded."""
    parts = [module for module in model.modules() if isinstance(module, FSDPModule)]
    _set_reshard(parts, False)
    for part in parts:
        part.unshard()
    try:
        yield
    finally:
        for part in parts:
            part.reshard()
        _set_reshard(parts, True)


def _set_reshard(parts: list[FSDPModule], after_forward: bool) -> None:
    for part in parts:
        if not isinstance(part, PreTrainedModel):  # a root stays whole until its backward pass
            part.set_reshard_after_forward(after_forward, recurse=False)


@torch.no_grad()
def full_tensors(model: torch.nn.Module, *, trained: bool = False) -> dict[str, torch.Tensor]:
    """All weights, or the trained ones, by name: on rank 0; elsewhere nothing. All ranks must ask."""
    found = {}
    for name, parameter in model.named_parameters():
        if parameter.requires_grad or not trained:
            tensor = parameter.detach()
            tensor = tensor.full_tensor() if isinstance(tensor, DTensor) else tensor
            if devices.leads():
                found[name] = tensor.contiguous()
    return found


@torch.no_grad()
def gather(blanks: Blanks) -> None:
    """Undo `shard`: on rank 0 the models are plain ones again; the other ranks leave, by `devices.leave`."""
    found = [full_tensors(model) for model, _ in blanks]
    if blanks:
        devices.leave()
    for (model, blank), tensors in zip(blanks, found, strict=True):
        filled = {
            id(p): torch.nn.Parameter(tensors[name], requires_grad=p.requires_grad)
            for name, p in blank.named_parameters()
        }
        plain = copy.deepcopy(blank, filled)
        model.__class__, model.__dict__ = plain.__class__, plain.__dict__


def local_part(tensor: torch.Tensor) -> torch.Tensor:
    """What this rank holds of it."""
    tensor = tensor.detach()
    return (tensor.to_local() if isinstance(tensor, DTensor) else tensor).contiguous()


def like(parameter: torch.Tensor, part: torch.Tensor) -> torch.Tensor:
    """This rank's part of a tensor that is cut as the parameter is."""
    if not isinstance(parameter, DTensor) or part.ndim == 0:
        return part
    how = {"run_check": False, "shape": parameter.shape, "stride": parameter.stride()}
    return DTensor.from_local(part.to(parameter.device), parameter.device_mesh, parameter.placements, **how)


def gradient_norm(model: torch.nn.Module, most: float) -> float:
    """The norm of all gradients before they are clipped to `most`, over all ranks."""
    norm = torch.nn.utils.clip_grad_norm_(model.parameters(), most)
    return (norm.full_tensor() if isinstance(norm, DTensor) else norm).item()
