"""Rows of a finished round, and checkpoints that verify, for versions to stand on."""

import json
from itertools import count
from pathlib import Path

from alignment.manifest import write_manifest
from labelapp.models import Audit, EngineVersion, Project, Round, Stage, Version
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


def audit(version: Version, folder: Path, **spoiled: dict | None) -> Audit:
    """Give the version an audit: passing, unless figures are spoiled as in tests.gate.metrics."""
    path, found = folder / f"result-{version.pk}.json", result(**spoiled)
    path.write_text(json.dumps(found))
    return record_audit(version=version, stage=make_stage(version.project), result=found, result_path=str(path))


def make_passing(project: Project, folder: Path, **fields) -> Version:
    version = make_policy(project, folder, **fields)
    audit(version, folder)
    return version
