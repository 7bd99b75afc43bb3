"""What `--help` prints: a first run to copy, the stages, and every field of a stage's config. Torch-free."""

from __future__ import annotations

import ast
import inspect
import json
import pkgutil
import re
from dataclasses import MISSING, Field, asdict, fields, is_dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

import alignment.config
from alignment.config import CONFIGS, JobError

FIRST_JOB = {
    "stage": "pretrain",
    "config": {
        "text": ["text.txt"],
        "vocabulary": 400,
        "width": 64,
        "depth": 2,
        "heads": 4,
        "context": 64,
        "optimization": {"learning_rate": 3e-3, "batch_size": 8, "max_steps": 20, "epochs": 20},
    },
    "output": "runs/base",
}
SECOND_JOB = {
    "stage": "sft",
    "inputs": {"parent": "runs/base/checkpoint"},
    "config": {"rows": "rows.jsonl", "optimization": {"batch_size": 4, "epochs": 3}},
    "output": "runs/sft",
}
ROW = {"prompt": "Is the sky blue?", "completion": "Yes, by day."}

TUTORIAL = """\
python -m alignment STAGE job.json

Trains and measures language models: from text, from dialogues, from judgments of answers. A stage reads one job file,
verifies the digests of its inputs, and writes a directory. Nothing is downloaded and nothing is pickled.

A first run, on any text of a few pages in text.txt (a blank line ends a document). Write base.json:

{first}

    python -m alignment pretrain base.json

makes a small policy from random weights. Teach it to answer: rows.jsonl holds one JSON object a line,

    {row}

and sft.json names the policy that was made as its parent:

{second}

    python -m alignment sft sft.json

A parent may be any Hugging Face directory of a causal language model with safetensors and a chat template. An input is
a path, or {{"path": ..., "sha256": ...}} to insist on the digest of its manifest.json.

Each run's output directory holds
    metrics.jsonl   one JSON object a step, with units in the names
    checkpoint/     a Hugging Face directory, card.json (where it comes from) and manifest.json (every file's SHA-256)
    state/          what a run that was stopped or killed goes on from: name the directory in the job's "resume_from"
    result.json     status, reason, checkpoint and metrics: this file decides how the run ended

Stages, in the order in which a model meets them:
{stages}

    python -m alignment STAGE --help            what a stage does and every field of its config
    python -m alignment STAGE job.json --dry-run  a few steps; result.json: seconds, memory, steps of the whole
    python -m alignment tensorboard RUN LOGS    metrics.jsonl of every run below RUN, for `tensorboard --logdir LOGS`

A job holds: stage, inputs, config, output; and where wanted seed (0), threads (0: torch's choice), resume_from,
dry_run (false), and devices (1): so many GPUs, or without GPUs processes that share the cores, train together
(docs/devices.md).

Exit codes: 0 done; 64 bad input, with a sentence that names the thing and the remedy; 70 a loss or gradient that is not
finite, the weights untouched; 75 stopped by SIGTERM, can be resumed; 1 anything else (see result.json).
"""


def tutorial() -> str:
    lines = [f"    {stage:<12}{purpose(stage)}" for stage in CONFIGS]
    return TUTORIAL.format(
        first=indented(FIRST_JOB), second=indented(SECOND_JOB), row=json.dumps(ROW), stages="\n".join(lines)
    )


def indented(job: dict[str, Any]) -> str:
    return "\n".join(f"    {line}" for line in json.dumps(job, indent=2).splitlines())


def stage_docstring(stage: str) -> str:
    """The stage's own words, read without importing it: that would load torch."""
    source = Path(__file__).with_name(f"{stage}.py").read_text()
    return ast.get_docstring(ast.parse(source)) or ""


def purpose(stage: str) -> str:
    """The first sentence of the stage's docstring."""
    first = stage_docstring(stage).partition("\n\n")[0].replace("\n", " ")
    words = re.sub(r"^The stage `\w+`: ", "", first)
    return words[:1].upper() + words[1:]


def stage_help(stage: str) -> str:
    """What the stage does, and its config field by field with default and meaning."""
    config = CONFIGS[stage]
    parts = [f"python -m alignment {stage} job.json", stage_docstring(stage), f"config: {config.__doc__}"]
    return "\n\n".join([*parts, "\n".join(described(config, "  ", settled(config)))]) + "\n"


def described(config: type, indent: str, given: Any = None) -> list[str]:
    """A line a field; a group's own fields follow it, further in. Defaults are those of `given` where it is there."""
    comments, groups, lines = comments_of(config), nested(), []
    for field in fields(config):
        value = getattr(given, field.name, None)
        group = type(value) if is_dataclass(value) else groups.get(field.name) if field.default is None else None
        head = f"{field.name}:" if group else f"{field.name} = {default_of(field) if given is None else shown(value)}"
        lines.append(f"{indent + head:<35} {comments.get(field.name, '')}".rstrip())
        lines += described(group, f"{indent}    ", value) if group else []
    return lines


def settled(config: type) -> Any:
    """The config with nothing but defaults, whose groups may have defaults of the stage's own; None where it needs
    something."""
    try:
        return config()
    except JobError:
        return None


def default_of(field: Field) -> str:
    if field.default_factory is not MISSING:
        return shown(field.default_factory())
    return "(needed)" if field.default is MISSING else shown(field.default)


def shown(value: Any) -> str:
    return json.dumps(value, default=asdict)


def comments_of(config: type) -> dict[str, str]:
    """The comment behind each field in the source: written once, for readers of the code and of the help."""
    sources = [inspect.getsource(kind) for kind in reversed(config.__mro__) if is_dataclass(kind)]
    return dict(re.findall(r"^    (\w+): [^#\n]*#\s*(.+)$", "\n".join(sources), re.MULTILINE))


def nested() -> dict[str, type]:
    """The groups of fields by the name that they are nested under, as their docstrings say."""
    modules = [import_module(f"alignment.config.{m.name}") for m in pkgutil.iter_modules(alignment.config.__path__)]
    kinds = {kind for module in modules for kind in vars(module).values() if isinstance(kind, type)}
    named = {kind: re.search(r'nested under "(\w+)"', kind.__doc__ or "") for kind in kinds}
    return {found[1]: kind for kind, found in named.items() if found}
