"""The job file: what a stage is asked to do. Torch-free, so the web application may import it.

Every stage reads one `Job` from `job.json` and one config dataclass of its own. A field that the stage does not know,
or a value out of its range, is a `JobError` that names the field, the value and the remedy.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

EXIT_DONE = 0
EXIT_BAD_INPUT = 64
EXIT_NON_FINITE = 70
EXIT_STOPPED = 75


class JobError(ValueError):
    """The job cannot be done as asked. The message is a sentence for a person."""


class NonFiniteStep(ArithmeticError):
    """A loss or gradient is not a number; the weights are as before the step."""


class Stopped(Exception):
    """SIGTERM arrived: the state is saved and the run can be resumed."""


@dataclass(frozen=True)
class Input:
    """A verified directory the stage reads: its path and the SHA-256 of its manifest.json."""

    path: str
    sha256: str


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
        inputs = {name: build(Input, value) for name, value in raw.get("inputs", {}).items()}
        return cls(**{**{f.name: getattr(known, f.name) for f in fields(cls)}, "inputs": inputs})

    def input_path(self, name: str) -> Path:
        """The directory of an input the stage cannot do without. Raises JobError."""
        if name not in self.inputs:
            named = ", ".join(sorted(self.inputs)) or "none"
            raise JobError(f"the stage {self.stage} needs the input {name!r}; the job names {named}")
        return Path(self.inputs[name].path)

    def dump(self, path: str | Path) -> None:
        Path(path).write_text(json.dumps(asdict(self), indent=2, ensure_ascii=False) + "\n")


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


@dataclass(frozen=True)
class Optimization:
    """Shared by every training stage; nested under "optimization"."""

    learning_rate: float = 3e-4
    batch_size: int = 16  # rows (pairs, dialogues or blocks) an optimizer step
    epochs: int = 1
    max_steps: int = 0  # 0: no limit besides the epochs
    warmup_share: float = 0.05
    weight_decay: float = 0.0
    max_grad_norm: float = 1.0
    checkpoint_every: int = 50  # optimizer steps

    def __post_init__(self) -> None:
        require(0 < self.learning_rate < 1, "learning_rate", self.learning_rate, "choose a value between 0 and 1")
        require(self.batch_size >= 1, "batch_size", self.batch_size, "at least 1 row")
        require(self.epochs >= 1, "epochs", self.epochs, "at least 1")
        require(self.max_steps >= 0, "max_steps", self.max_steps, "a number of steps, or 0 for no limit")
        require(0 <= self.warmup_share <= 1, "warmup_share", self.warmup_share, "a share from 0 to 1")
        require(self.weight_decay >= 0, "weight_decay", self.weight_decay, "0 or more")
        require(self.max_grad_norm > 0, "max_grad_norm", self.max_grad_norm, "a positive number, 1.0 is usual")
        require(self.checkpoint_every >= 1, "checkpoint_every", self.checkpoint_every, "at least 1 step")


def optimization(raw: dict[str, Any] | Optimization | None) -> Optimization:
    return raw if isinstance(raw, Optimization) else build(Optimization, raw or {})


PRECISIONS = {"fp32", "bf16", "auto"}


@dataclass(frozen=True)
class PretrainConfig:
    """Next-token training from scratch on plain text. Without a parent the tokenizer is trained too."""

    text: list[str] = field(default_factory=list)  # .txt or .txt.gz; a blank line ends a document; twice counts twice
    held_out_text: list[str] = field(default_factory=list)  # measured in bits per byte, one figure a file
    vocabulary: int = 4096
    width: int = 256
    depth: int = 8
    heads: int = 8
    context: int = 512  # tokens a block
    micro_batch: int = 8  # blocks in memory at a time
    precision: str = "fp32"  # fp32 | bf16 (fp32 weights, bf16 products) | auto: bf16 where a probe finds it faster
    compile: bool = False  # torch.compile, which needs a C++ compiler on a CPU
    optimization: Any = None

    def __post_init__(self) -> None:
        require(bool(self.text), "text", self.text, "name at least one text file")
        require(self.precision in PRECISIONS, "precision", self.precision, "fp32, bf16 or auto")
        require(self.micro_batch >= 1, "micro_batch", self.micro_batch, "at least 1 block")
        require(self.width % self.heads == 0, "heads", self.heads, f"must divide the width {self.width}")
        object.__setattr__(self, "optimization", optimization(self.optimization))


@dataclass(frozen=True)
class SFTConfig:
    """Supervised fine-tuning on dialogues, loss on the assistant's tokens only."""

    rows: str = ""  # JSONL with "messages" or "prompt" and "completion"
    held_out_rows: str = ""
    max_length: int = 512
    micro_tokens: int = 8192  # padded tokens in memory at a time; changes nothing but memory and speed
    precision: str = "fp32"  # fp32 | bf16; on a CPU every new batch shape costs bf16 a slow kernel compilation
    optimization: Any = None

    def __post_init__(self) -> None:
        require(bool(self.rows), "rows", self.rows, "name a JSONL file of dialogues")
        require(self.precision in {"fp32", "bf16"}, "precision", self.precision, "fp32 or bf16")
        require(self.max_length >= 8, "max_length", self.max_length, "at least 8 tokens")
        object.__setattr__(self, "optimization", optimization(self.optimization))


@dataclass(frozen=True)
class RewardConfig:
    """Bradley-Terry reward model on a snapshot's pairs, read at the EOS token."""

    max_length: int = 512
    margin: str = "additive"  # none | additive | scaled (loss times 1 + margin)
    tie_weight: float = 0.0  # weight of tied comparisons, pulled to equal scores; 0 leaves them out
    label_smoothing: float = 0.0
    centering: float = 0.01  # weight of the squared sum of a pair's two scores
    counterfactual_weight: float = 0.0  # weight of the counterfactual-invariance penalty; 0 is the baseline arm
    optimization: Any = None

    def __post_init__(self) -> None:
        require(self.margin in {"none", "additive", "scaled"}, "margin", self.margin, "none, additive or scaled")
        require(0 <= self.label_smoothing < 0.5, "label_smoothing", self.label_smoothing, "0 up to below 0.5")
        require(self.centering >= 0, "centering", self.centering, "0 or more")
        require(self.tie_weight >= 0, "tie_weight", self.tie_weight, "0 or more")
        require(self.counterfactual_weight >= 0, "counterfactual_weight", self.counterfactual_weight, "0 or more")
        object.__setattr__(self, "optimization", optimization(self.optimization))


@dataclass(frozen=True)
class PreferenceConfig:
    """Direct preference optimisation with a frozen reference (the parent)."""

    beta: float = 0.1
    max_length: int = 512
    label_smoothing: float = 0.0
    optimization: Any = None

    def __post_init__(self) -> None:
        require(self.beta > 0, "beta", self.beta, "a positive number, 0.1 is usual")
        require(0 <= self.label_smoothing < 0.5, "label_smoothing", self.label_smoothing, "0 up to below 0.5")
        object.__setattr__(self, "optimization", optimization(self.optimization))


@dataclass(frozen=True)
class GenerateConfig:
    """Sample completions of one policy. Writes completions.jsonl, one row a sample."""

    prompts: str = ""  # JSONL: {"id": ..., "messages": [...]}
    samples: int = 1  # completions a prompt
    max_new_tokens: int = 128
    temperature: float = 1.0  # 0 is greedy
    top_p: float = 1.0
    batch_size: int = 32

    def __post_init__(self) -> None:
        require(bool(self.prompts), "prompts", self.prompts, "name a JSONL file of prompts")
        require(self.samples >= 1, "samples", self.samples, "at least 1")
        require(self.temperature >= 0, "temperature", self.temperature, "0 (greedy) or more")
        require(0 < self.top_p <= 1, "top_p", self.top_p, "above 0, at most 1")
        require(self.max_new_tokens >= 1, "max_new_tokens", self.max_new_tokens, "at least 1")
        require(self.batch_size >= 1, "batch_size", self.batch_size, "at least 1 completion at a time")


@dataclass(frozen=True)
class EvaluateConfig:
    """Measure a reward model on held-out pairs, and a policy against its parent under that reward model.

    Inputs: snapshot, reward; optionally policy and parent (win rate, KL, length), and reward_baseline (the arm without
    the mitigation, for the paired comparison).
    """

    max_length: int = 512
    prompts: str = ""  # JSONL as for generate; empty: the snapshot's held-out prompts
    max_prompts: int = 128
    samples: int = 2  # answers a prompt
    answers: int = 0  # at least so many in all: few prompts get more samples each
    max_new_tokens: int = 96
    temperature: float = 1.0
    bootstrap: int = 1000
    batch_size: int = 32

    def __post_init__(self) -> None:
        require(self.bootstrap >= 100, "bootstrap", self.bootstrap, "at least 100 resamples")
        require(self.samples >= 1, "samples", self.samples, "at least 1")
        require(self.answers >= 0, "answers", self.answers, "a number of answers, or 0 to ask for none")
        require(self.max_prompts >= 1, "max_prompts", self.max_prompts, "at least 1")
        require(self.max_new_tokens >= 1, "max_new_tokens", self.max_new_tokens, "at least 1")
        require(self.batch_size >= 1, "batch_size", self.batch_size, "at least 1 completion at a time")
        require(self.temperature > 0, "temperature", self.temperature, "above 0: greedy answers say nothing of the KL")


CONFIGS = {
    "pretrain": PretrainConfig,
    "sft": SFTConfig,
    "reward": RewardConfig,
    "preference": PreferenceConfig,
    "generate": GenerateConfig,
    "evaluate": EvaluateConfig,
}


def stage_config(job: Job) -> Any:
    """The stage's own config. Raises JobError for an unknown stage or a bad value."""
    if job.stage not in CONFIGS:
        raise JobError(f"there is no stage {job.stage!r}; choose one of {', '.join(CONFIGS)}")
    return build(CONFIGS[job.stage], job.config)
