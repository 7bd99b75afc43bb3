"""One job: which stage, its inputs, its config, its output; and how a stage can end."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

EXIT_DONE = 0
EXIT_BAD_INPUT = 64
EXIT_NON_FINITE = 70
EXIT_DISK_FULL = 74
EXIT_STOPPED = 75

# The stages that several devices can train together, and what they cannot do then: a loss that reads a weight beside
# the scores, a compiler that would have to see through the sharding, a sampler that wants the weights in one place.
SHARDED = {"pretrain", "sft", "reward", "preference", "ppo", "grpo", "safe", "safe_ppo", "online_dpo"}
ON_ONE_DEVICE = ("mitigation.length_head", "compile", "sampling.server")


class JobError(ValueError):
    """The job cannot be done as asked. The message is a sentence for a person."""


class NonFiniteStep(ArithmeticError):
    """A loss or gradient is not a number; the weights are as before the step."""


class Stopped(Exception):
    """SIGTERM arrived: the state is saved and the run can be resumed."""


class ServerLost(Stopped):
    """The server that samples is gone: the state is saved and the run can be resumed once it is back."""


class Helped(Exception):
    """This rank's part of a run on several devices is done; rank 0 finishes and writes the result."""


@dataclass(frozen=True)
class Input:
    """A verified directory the stage reads: its path and the SHA-256 of its manifest.json.

    A job written by hand may name the path alone: the run then pins what it finds, and its card says the digest.
    """

    path: str
    sha256: str = ""


@dataclass(frozen=True)
class Job:
    """One stage of one round, or one run by hand."""

    stage: str
    inputs: dict[str, Input]
    config: dict[str, Any]
    output: str
    seed: int = 0
    resume_from: str | None = None
    threads: int = 0  # 0: torch's own choice
    dry_run: bool = False  # only a few steps, to learn what the whole would take
    devices: int = 1  # ranks that train together: a GPU each, or without GPUs processes that share the cores

    @classmethod
    def load(cls, path: str | Path) -> Job:
        """Read job.json. Raises JobError naming what is missing or unknown."""
        try:
            raw = json.loads(Path(path).read_text())
        except (OSError, json.JSONDecodeError) as error:
            raise JobError(f"cannot read the job file {path}: {error}") from error
        return cls.from_dict(raw)

    @classmethod
    def from_dict(cls, raw: dict[str, Any]) -> Job:
        if not isinstance(raw, dict):
            raise JobError(f"a job must be a JSON object, got {type(raw).__name__}")
        known = build(cls, {**raw, "inputs": {}})
        require(isinstance(known.output, str), "output", known.output, "name a directory")
        require_devices(known.stage, known.devices)
        inputs = {name: input_of(value) for name, value in raw.get("inputs", {}).items()}
        return cls(**{**{f.name: getattr(known, f.name) for f in fields(cls)}, "inputs": inputs})

    def input_path(self, name: str) -> Path:
        """The directory of an input the stage cannot do without. Raises JobError."""
        if name not in self.inputs:
            named = ", ".join(sorted(self.inputs)) or "none"
            raise JobError(f"the stage {self.stage} needs the input {name!r}; the job names {named}")
        return Path(self.inputs[name].path)

    def dump(self, path: str | Path) -> None:
        Path(path).write_text(json.dumps(asdict(self), indent=2, ensure_ascii=False) + "\n")


def require_devices(stage: str, devices: Any, config: Any = None) -> None:
    """Refuse a number of devices that the stage, or its config, cannot run on. Raises JobError."""
    whole = isinstance(devices, int) and not isinstance(devices, bool) and devices >= 1
    require(whole, "devices", devices, "a number of devices, 1 or more")
    require(devices == 1 or stage in SHARDED, "devices", devices, f"the stage {stage} runs on one device; leave it out")
    for path in ON_ONE_DEVICE if devices > 1 else ():
        value = config
        for key in path.split("."):
            value = getattr(value, key, None)
        require(not value, path, value, f"leave it out on {devices} devices")


def input_of(raw: Any) -> Input:
    """An input as a job names it: {"path", "sha256"}, or the path alone."""
    return Input(raw) if isinstance(raw, str) else build(Input, raw)


def build(kind: type, raw: dict[str, Any]) -> Any:
    """Make a config dataclass from JSON. Raises JobError for unknown and missing fields."""
    if not isinstance(raw, dict):
        raise JobError(f"{kind.__name__} must be a JSON object, got {type(raw).__name__}")
    known = {f.name for f in fields(kind)}
    if unknown := sorted(set(raw) - known):
        raise JobError(f"{kind.__name__} has no field {unknown[0]!r}; it takes {', '.join(sorted(known))}")
    try:
        made = kind(**raw)
    except TypeError as error:
        raise JobError(f"{kind.__name__}: {error}") from error
    return made


def require(condition: bool, field_name: str, value: Any, remedy: str) -> None:
    """Refuse a config value: names the field, the value and what to do."""
    if not condition:
        raise JobError(f"{field_name} is {value!r}: {remedy}")
