"""What the training stages share: optimizer, schedule, the step, metrics, stopping, and exact resumption."""

from __future__ import annotations

import json
import math
import os
import random
import shutil
import signal
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from alignment.config import Job, JobError, NonFiniteStep, Optimization, Stopped  # noqa: F401
from alignment.model import sync_parent

STATE = Path("state") / "state.safetensors"


def make_optimizer(model: torch.nn.Module, optimization: Optimization) -> torch.optim.AdamW:
    """AdamW; matrices decay, norms and biases do not."""
    matrices = [p for p in model.parameters() if p.requires_grad and p.ndim >= 2]
    vectors = [p for p in model.parameters() if p.requires_grad and p.ndim < 2]
    groups = [{"params": matrices, "weight_decay": optimization.weight_decay}]
    if vectors:
        groups.append({"params": vectors, "weight_decay": 0.0})
    return torch.optim.AdamW(groups, lr=optimization.learning_rate, betas=(0.9, 0.95), fused=True)


def schedule(step: int, steps: int, *, warmup_share: float, shape: str = "cosine") -> float:
    """Share of the peak learning rate at 0-based `step`: linear warm-up, then cosine or linear to a tenth."""
    warmup = math.ceil(warmup_share * steps)
    if step < warmup:
        return (step + 1) / warmup
    done = (step - warmup) / max(1, steps - warmup)
    remaining = 1 - done if shape == "linear" else (1 + math.cos(math.pi * done)) / 2
    return 0.1 + 0.9 * remaining


def clipped_step(
    model: torch.nn.Module, optimizer: torch.optim.Optimizer, *, loss: float, learning_rate: float, max_grad_norm: float
) -> float:
    """Apply the accumulated gradients and return their norm before clipping. Raises NonFiniteStep.

    The only place where weights change: a loss or norm that is not finite is refused before it.
    """
    norm = torch.nn.utils.clip_grad_norm_(model.parameters(), max_grad_norm).item()
    if not (math.isfinite(loss) and math.isfinite(norm)):
        optimizer.zero_grad(set_to_none=True)
        raise NonFiniteStep(f"the loss is {loss}, the gradient norm {norm}; lower the learning rate or check the rows")
    for group in optimizer.param_groups:
        group["lr"] = learning_rate
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)
    return norm


class Metrics:
    """metrics.jsonl of one attempt: a flushed line a step."""

    def __init__(self, output: str | Path, steps: int, seconds: float = 0.0) -> None:
        Path(output).mkdir(parents=True, exist_ok=True)
        self.stream = open(Path(output) / "metrics.jsonl", "a", buffering=1)
        self.steps = steps
        self.started = time.monotonic() - seconds
        self.told = 0.0

    @property
    def seconds(self) -> float:
        """Seconds since the run began, earlier attempts included."""
        return time.monotonic() - self.started

    def write(self, step: int, **values: float) -> None:
        """One line after `step` finished steps; units are in the names."""
        row = {"step": step, "steps": self.steps, "seconds": round(self.seconds, 3), **values}
        self.stream.write(json.dumps(row) + "\n")
        self._tell(step, values)

    def _tell(self, step: int, values: dict[str, float]) -> None:
        """A line for a person who follows the log: the first step, the last, and about one a second between."""
        now = time.monotonic()
        if now - self.told >= 1 or step == self.steps:
            self.told = now
            numbers = {name: value for name, value in values.items() if isinstance(value, int | float)}
            figures = "  ".join(f"{name} {value:.4g}" for name, value in numbers.items())
            print(f"{self.seconds:8.1f} s  step {step} of {self.steps}  {figures}", flush=True)


class StopSignal:
    """Remembers a SIGTERM, so that a step is finished before the run stops."""

    def __init__(self) -> None:
        self.requested = False
        signal.signal(signal.SIGTERM, self._remember)

    def _remember(self, *_: Any) -> None:
        self.requested = True


def identity(job: Job) -> dict[str, Any]:
    """What a resumed run must share with the run it continues."""
    inputs = {name: given.sha256 for name, given in job.inputs.items()}
    return {"stage": job.stage, "inputs": inputs, "config": json.loads(json.dumps(job.config)), "seed": job.seed}


def save_state(
    job: Job, model: torch.nn.Module, optimizer: torch.optim.Optimizer, *, step: int, seconds: float, **extra: Any
) -> None:
    """Replace the attempt's resumable state: weights, optimizer, random generators and progress.

    One file, replaced by one rename, so a kill at any moment leaves either the older or the newer state, whole.
    """
    tensors = {f"model.{name}": p.detach().contiguous() for name, p in model.named_parameters()}
    for index, moments in optimizer.state_dict()["state"].items():
        tensors |= {f"optimizer.{index}.{name}": torch.as_tensor(value) for name, value in moments.items()}
    tensors["generator.torch"] = torch.get_rng_state()
    if torch.cuda.is_available():
        tensors["generator.cuda"] = torch.cuda.get_rng_state()
    facts = {"identity": identity(job), "step": step, "seconds": seconds, "extra": extra, **_host_generators()}
    path = Path(job.output) / STATE
    path.parent.mkdir(parents=True, exist_ok=True)
    fresh = path.with_suffix(f".tmp-{os.getpid()}")
    save_file(tensors, fresh, metadata={"facts": json.dumps(facts)})
    with open(fresh, "rb") as stream:
        os.fsync(stream.fileno())
    os.replace(fresh, path)
    sync_parent(path)


def _host_generators() -> dict[str, Any]:
    name, keys, position, has_gauss, gauss = np.random.get_state()
    return {"python": random.getstate(), "numpy": [name, keys.tolist(), position, has_gauss, gauss]}


def load_state(job: Job, model: torch.nn.Module, optimizer: torch.optim.Optimizer) -> dict[str, Any]:
    """Continue from job.resume_from: {"step", "seconds", "extra"}; step 0 where nothing was saved. Raises JobError."""
    path = Path(job.resume_from or job.output) / STATE
    if not job.resume_from or not path.is_file():
        return {"step": 0, "seconds": 0.0, "extra": {}}
    try:
        with safe_open(path, "pt") as stored:
            facts = json.loads(stored.metadata()["facts"])
            tensors = {name: stored.get_tensor(name) for name in stored.keys()}  # noqa: SIM118, no mapping
    except (SafetensorError, OSError, KeyError, TypeError) as error:
        raise JobError(f"the state {path} cannot be read ({error}); start again without resume_from") from error
    if facts["identity"] != identity(job):
        raise JobError(f"{path} belongs to another job; resume with the same stage, inputs, config and seed")
    _restore(model, optimizer, tensors)
    _restore_generators(facts, tensors)
    _take_over(path, Path(job.output) / STATE)
    return {"step": facts["step"], "seconds": facts["seconds"], "extra": facts["extra"]}


def _take_over(old: Path, own: Path) -> None:
    """Copy the state, so that an attempt killed before its first own checkpoint loses nothing either."""
    if old.resolve() == own.resolve():
        return
    own.parent.mkdir(parents=True, exist_ok=True)
    fresh = own.with_suffix(f".tmp-{os.getpid()}")
    shutil.copyfile(old, fresh)
    os.replace(fresh, own)


def _restore(model: torch.nn.Module, optimizer: torch.optim.Optimizer, tensors: dict[str, torch.Tensor]) -> None:
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            parameter.copy_(tensors[f"model.{name}"])
    moments: dict[int, dict[str, torch.Tensor]] = {}
    for key, tensor in tensors.items():
        if key.startswith("optimizer."):
            _, index, name = key.split(".")
            moments.setdefault(int(index), {})[name] = tensor
    optimizer.load_state_dict({**optimizer.state_dict(), "state": moments})


def _restore_generators(facts: dict[str, Any], tensors: dict[str, torch.Tensor]) -> None:
    torch.set_rng_state(tensors["generator.torch"])
    if "generator.cuda" in tensors and torch.cuda.is_available():
        torch.cuda.set_rng_state(tensors["generator.cuda"])
    version, keys, gauss = facts["python"]
    random.setstate((version, tuple(keys), gauss))
    name, keys, *rest = facts["numpy"]
    np.random.set_state((name, np.array(keys, dtype=np.uint32), *rest))


def read_jsonl(path: str | Path, what: str) -> Iterable[tuple[int, dict[str, Any]]]:
    """(1-based line number, object) of every line that is not blank. Raises JobError naming the line."""
    try:
        lines = Path(path).read_text(encoding="utf-8").split("\n")  # splitlines() would cut at U+2028 inside a text
    except (OSError, UnicodeDecodeError) as error:
        raise JobError(f"cannot read the {what} in {path}: {error}") from error
    for number, line in enumerate(lines, 1):
        if line.strip():
            yield number, _object(line, f"{path} line {number}")


def _object(line: str, place: str) -> dict[str, Any]:
    try:
        row = json.loads(line)
    except json.JSONDecodeError as error:
        raise JobError(f"{place} is no JSON: {error}") from error
    if not isinstance(row, dict):
        raise JobError(f"{place} must be a JSON object, got {type(row).__name__}")
    return row
