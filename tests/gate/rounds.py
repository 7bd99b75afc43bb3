"""Rows of a finished round, and checkpoints that verify, for versions to stand on."""

import json
from itertools import count
from pathlib import Path

from alignment.manifest import file_sha256, write_manifest
from labelapp.models import Audit, EngineVersion, GateRule, GateSettings, Project, Round, Stage, Version
from labelapp.rounds.gate import record_audit
from tests.factories import make_version
from tests.gate.metrics import result

_number = count(1)


def make_stage(project: Project, name: str = "evaluate", **fields) -> Stage:
    recipe = {"name": "test", "stages": []}
    round = Round.objects.create(project=project, number=next(_number), recipe=recipe, state="done")
    return Stage.objects.create(round=round, number=1, name=name, stage=name, state="done", **fields)


def make_policy(project: Project, folder: Path, *, loaded: bool = True, **fields) -> Version:
    """A policy whose checkpoint directory verifies; by default the engine holds it."""
    number = next(_number)
    checkpoint = folder / f"checkpoint-{number}"
    checkpoint.mkdir()
    (checkpoint / "model.safetensors").write_text(f"weights {number}")
    digest = write_manifest(checkpoint, kind="checkpoint")
    version = make_version(project, path=str(checkpoint), digest=digest, **fields)
    if loaded:
        EngineVersion.objects.create(version=version, state="ready")
    return version


def audit(version: Version, folder: Path, *, values: list[dict] | None = None, **spoiled: dict | None) -> Audit:
    """Give the version an audit: passing, unless figures are spoiled as in tests.gate.metrics.

    values: rows of its values.jsonl; none are kept by default.
    """
    path, found = folder / f"result-{version.pk}.json", result(**spoiled)
    if values is not None:
        kept = folder / f"values-{version.pk}.jsonl"
        kept.write_text("".join(json.dumps(row) + "\n" for row in values))
        found["values"] = {"file": kept.name, "sha256": file_sha256(kept)}
    path.write_text(json.dumps(found))
    stage = make_stage(version.project, result=found, job={"config": {"max_new_tokens": 64, "temperature": 1.0}})
    return record_audit(version=version, stage=stage, result=found, result_path=str(path))


def kept(key: str, values: list[float], *, groups: int = 12, other: float | None = None, **more) -> list[dict]:
    """Rows of values.jsonl: one item a value, dealt out to the groups in turn."""
    return [
        {"metric": key, "item": f"item {number}", "group": f"group {number % groups}", "value": value, "other": other,
         "against": "", **more}
        for number, value in enumerate(values)
    ]  # fmt: skip


def make_gate(project: Project, *rules: dict, **fields) -> GateSettings:
    """The next version of the project's gate: make_gate(project, {"key": "win_rate", "limit": 0.5})."""
    settings = GateSettings.objects.create(project=project, number=project.gate_settings.count() + 1, **fields)
    for rule in rules:
        GateRule.objects.create(settings=settings, **{"direction": "higher", **rule})
    return settings


def make_passing(project: Project, folder: Path, **fields) -> Version:
    version = make_policy(project, folder, **fields)
    audit(version, folder)
    return version
