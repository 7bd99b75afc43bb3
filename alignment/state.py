"""The state of a run that was stopped or killed, and its exact continuation. safetensors and JSON only.

On several devices each rank writes the part of the weights and of the optimizer that it holds; rank 0's file, which has
everything else, is replaced once the others' parts are there, and names their step. A run may go on with another number
of devices.
"""

from __future__ import annotations

import json
import os
import random
import shutil
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from alignment import devices
from alignment.config import Job, JobError
from alignment.manifest import UNSEALED, ArtifactError, seal, verify_sealed
from alignment.models.checkpoints import sync_parent
from alignment.models.sharding import like, local_part

STATE = Path("state") / "state.safetensors"


class Part(Protocol):
    """What a run remembers besides weights and optimizer: a controller, a multiplier, a rollout buffer.

    The values of its state are tensors, or whatever JSON can hold.
    """

    def state_dict(self) -> dict[str, Any]: ...

    def load_state_dict(self, state: dict[str, Any]) -> None: ...


class Progress(NamedTuple):
    step: int  # finished optimizer steps
    seconds: float  # of all attempts so far


def identity(job: Job) -> dict[str, Any]:
    """What a resumed run must share with the run it continues."""
    inputs = {name: given.sha256 for name, given in job.inputs.items()}
    return {"stage": job.stage, "inputs": inputs, "config": json.loads(json.dumps(job.config)), "seed": job.seed}


def save_state(
    job: Job,
    model: torch.nn.Module,
    optimizer: torch.optim.Optimizer,
    *,
    step: int,
    seconds: float,
    parts: Mapping[str, Part] | None = None,
) -> None:
    """Replace the attempt's resumable state: trained weights, optimizer, random generators, parts and progress.

    It changes by one rename of one file, so a kill at any moment leaves either the older or the newer state, whole.
    """
    tensors = {f"model.{name}": local_part(p) for name, p in trained(model)}
    for index, moments in optimizer.state_dict()["state"].items():
        tensors |= {f"optimizer.{index}.{name}": local_part(torch.as_tensor(v)) for name, v in moments.items()}
    tensors["generator.torch"] = torch.get_rng_state()
    if torch.cuda.is_available():
        tensors["generator.cuda"] = torch.cuda.get_rng_state()
    facts = {"identity": identity(job), "step": step, "seconds": seconds, "parts": {}, **_host_generators()}
    facts["ranks"] = devices.size()
    for name, part in (parts or {}).items() if devices.leads() else ():  # every rank has the same
        for key, value in part.state_dict().items():
            if isinstance(value, torch.Tensor):
                tensors[f"part.{name}.{key}"] = value.detach().contiguous()
            else:
                facts["parts"].setdefault(name, {})[key] = value
    _replace_state(Path(job.output) / STATE, tensors, facts)


def _replace_state(path: Path, tensors: dict[str, torch.Tensor], facts: dict[str, Any]) -> None:
    """The other ranks' files first, then the one that names them; what it no longer names is removed."""
    own = part_of(path, devices.rank(), facts["step"])
    if not devices.leads():
        replace_tensors(own, tensors, facts)
    devices.meet()
    if devices.leads():
        replace_tensors(path, tensors, facts)
    devices.meet()
    older = path.parent.glob(f"rank-{devices.rank()}-step-*.safetensors")
    for left in older if devices.rank() else ():
        if left != own:
            left.unlink()


def part_of(path: Path, rank: int, step: int) -> Path:
    """The file that a rank writes beside rank 0's."""
    return path.with_name(f"rank-{rank}-step-{step}.safetensors") if rank else path


def trained(model: torch.nn.Module) -> Iterable[tuple[str, torch.nn.Parameter]]:
    """The parameters that a run changes: with adapters, theirs alone."""
    return ((name, p) for name, p in model.named_parameters() if p.requires_grad)


def replace_tensors(path: Path, tensors: dict[str, torch.Tensor], facts: Any) -> None:
    """Write one safetensors file beside its place, seal it (which syncs it) and rename it there; or leave nothing."""
    path.parent.mkdir(parents=True, exist_ok=True)
    fresh = path.with_suffix(f".tmp-{os.getpid()}")
    try:
        save_file(tensors, fresh, metadata={"facts": json.dumps(facts), "sha256": UNSEALED})
        seal(fresh)
    except Exception:
        fresh.unlink(missing_ok=True)  # on a full disk the room is needed to say so
        raise
    os.replace(fresh, path)
    sync_parent(path)


def _host_generators() -> dict[str, Any]:
    name, keys, position, has_gauss, gauss = np.random.get_state()
    return {"python": random.getstate(), "numpy": [name, keys.tolist(), position, has_gauss, gauss]}


def load_state(
    job: Job,
    model: torch.nn.Module,
    optimizer: torch.optim.Optimizer,
    parts: Mapping[str, Part] | None = None,
) -> Progress:
    """Continue from job.resume_from; step 0 where nothing was saved. Raises JobError."""
    path = Path(job.resume_from or job.output) / STATE
    if not job.resume_from or not path.is_file():
        return Progress(0, 0.0)
    facts, tensors = read_tensors(path)
    if facts["identity"] != identity(job):
        raise JobError(f"{path} belongs to another job; resume with the same stage, inputs, config and seed")
    own = _own_tensors(path, facts, tensors)
    _restore(model, optimizer, own)
    for name, part in (parts or {}).items():
        prefix = f"part.{name}."
        held = {key.removeprefix(prefix): tensor for key, tensor in tensors.items() if key.startswith(prefix)}
        part.load_state_dict({**facts["parts"].get(name, {}), **held})
    _restore_generators(facts, own)
    devices.meet()
    if devices.leads():
        _take_over(path.parent, Path(job.output) / STATE.parent)
    devices.meet()
    return Progress(facts["step"], facts["seconds"])


def read_tensors(path: Path) -> tuple[dict[str, Any], dict[str, torch.Tensor]]:
    """(facts, tensors) of a file. Raises JobError."""
    try:
        verify_sealed(path)
        with safe_open(path, "pt") as stored:
            facts = json.loads(stored.metadata()["facts"])
            return facts, {name: stored.get_tensor(name) for name in stored.keys()}  # noqa: SIM118, no mapping
    except (ArtifactError, SafetensorError, OSError, KeyError, TypeError) as error:
        raise JobError(f"the state {path} cannot be read ({error}); start again without resume_from") from error


def _own_tensors(path: Path, facts: dict[str, Any], tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """What this rank goes on from: what it saved, or its part of the whole where other ranks saved it."""
    ranks, rank = facts.get("ranks", 1), devices.rank()
    files = [part_of(path, number, facts["step"]) for number in range(ranks)]
    if ranks == devices.size():
        return read_tensors(files[rank])[1] if rank else tensors
    saved = [tensors, *(read_tensors(file)[1] for file in files[1:])]
    cut_up = [name for name in tensors if name.startswith(("model.", "optimizer."))]
    cut = {name: _recut([each[name] for each in saved]) for name in cut_up}
    own = {name: t for name, t in tensors.items() if name.startswith("generator.") and not rank}
    return {**own, **cut}


def _recut(saved: list[torch.Tensor]) -> torch.Tensor:
    """This rank's part of a tensor that other ranks saved: FSDP2 cuts along the first dimension, as chunk does."""
    if saved[0].ndim == 0:
        return saved[0]
    whole = torch.cat(saved)
    chunks = whole.chunk(devices.size())
    return chunks[devices.rank()] if devices.rank() < len(chunks) else whole[:0]


def _take_over(old: Path, own: Path) -> None:
    """Copy the state, so that an attempt killed before its first own checkpoint loses nothing either."""
    if old.resolve() == own.resolve():
        return
    own.mkdir(parents=True, exist_ok=True)
    for path in sorted(old.glob("*.safetensors")):  # the one that names the others is the last
        fresh = (own / path.name).with_suffix(f".tmp-{os.getpid()}")
        shutil.copyfile(path, fresh)
        os.replace(fresh, own / path.name)


def _restore(model: torch.nn.Module, optimizer: torch.optim.Optimizer, tensors: dict[str, torch.Tensor]) -> None:
    with torch.no_grad():
        for name, parameter in trained(model):
            parameter.copy_(like(parameter, tensors[f"model.{name}"]))
    numbered = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    moments: dict[int, dict[str, torch.Tensor]] = {}
    for key, tensor in tensors.items():
        if key.startswith("optimizer."):
            _, index, name = key.split(".")
            moments.setdefault(int(index), {})[name] = like(numbered[int(index)], tensor)
    optimizer.load_state_dict({**optimizer.state_dict(), "state": moments})


def _restore_generators(facts: dict[str, Any], tensors: dict[str, torch.Tensor]) -> None:
    if "generator.torch" in tensors:  # no rank but the first goes on from the draws of other ranks
        torch.set_rng_state(tensors["generator.torch"])
    if "generator.cuda" in tensors and torch.cuda.is_available():
        torch.cuda.set_rng_state(tensors["generator.cuda"])
    version, keys, gauss = facts["python"]
    random.setstate((version, tuple(keys), gauss))
    name, keys, *rest = facts["numpy"]
    np.random.set_state((name, np.array(keys, dtype=np.uint32), *rest))
