"""The card of a checkpoint: everything needed to say where the weights come from. Torch-free."""

from __future__ import annotations

import hashlib
from dataclasses import asdict
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from alignment.config import Job
from alignment.manifest import file_sha256

# Config fields that name files or folders.
FILE_FIELDS = {
    "text", "held_out_text", "rows", "held_out_rows", "prompts", "weights_file", "groups_file", "reference_cache",
}  # fmt: skip
PLACES = {"url", "directory", "key_variable"}  # where a server stood says nothing of the weights


def card_of(job: Job, config: Any, *, metrics: list[dict[str, Any]], **facts: Any) -> dict[str, Any]:
    """What card.json holds. It names inputs by digest, not by path, so that a copy elsewhere says the same."""
    return {
        "stage": job.stage,
        "inputs": {name: given.sha256 for name, given in job.inputs.items()},
        **told(asdict(config)),
        "seed": job.seed,
        **({"devices": job.devices} if job.devices > 1 else {}),  # sums in another order, so other last digits
        "code": {"labelapp": installed("labelapp"), "alignment_sha256": CODE},
        "libraries": {name: installed(name) for name in ("torch", "transformers", "tokenizers")},
        "metrics": metrics,
        **facts,
    }


def told(config: dict[str, Any]) -> dict[str, Any]:
    """{"config", "files"}: the config with its files by name alone, and the SHA-256 of each one that still exists."""
    shown, files = {name: value for name, value in config.items() if name not in PLACES}, {}
    for field in [name for name, value in shown.items() if isinstance(value, dict)]:
        inner = told(config[field])
        shown[field], files = inner["config"], files | inner["files"]
    for field in [name for name in FILE_FIELDS & set(config) if isinstance(config[name], str | list)]:
        one = isinstance(config[field], str)
        paths = [Path(path) for path in ([config[field]] if one else config[field])]
        shown[field] = paths[0].name if one else [path.name for path in paths]
        files |= {path.name: file_sha256(path) for path in paths if path.is_file()}
    return {"config": shown, "files": dict(sorted(files.items()))}


def installed(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def code_digest() -> str:
    """One SHA-256 over this package's sources: two runs with the same digest ran the same code."""
    digest = hashlib.sha256()
    here = Path(__file__).parents[1]
    for path in sorted([*here.rglob("*.py"), *here.rglob("*.jinja")]):
        digest.update(f"{path.relative_to(here)}\0".encode() + path.read_bytes())
    return digest.hexdigest()


CODE = code_digest()  # at the start of the run: an upgrade while it runs is not what ran
