"""What a finished round leaves behind: versions with their lineage, and their audits."""

import json
from pathlib import Path

from labelapp.models import Round, Stage, Version
from labelapp.rounds import lease
from labelapp.rounds.gate import record_audit

KINDS = {"reward": Version.Kind.REWARD, "preference": Version.Kind.POLICY}


def complete(claim: lease.Claim) -> None:
    """Store what the round's kind gives and end it as done, in one fenced transaction."""
    with lease.fenced(claim) as round:
        if round.kind == Round.Kind.SAMPLING:
            from labelapp.rounds import sampling  # it launches through this package, so it imports first

            sampling.collect(round)
        else:
            register(round)
        lease.close(round, Round.State.DONE)


def register(round: Round) -> list[Version]:
    """A version for each checkpoint, and an audit for each evaluation. Doing it again finds the same rows."""
    stages = list(round.stages.order_by("number"))
    versions = {stage.name: register_version(round, stage) for stage in stages if makes_version(stage)}
    for stage in stages:
        if stage.stage == "evaluate":
            audit_versions(round, stage, versions)
    return list(versions.values())


def makes_version(stage: Stage) -> bool:
    return stage.stage in KINDS and bool((stage.result or {}).get("checkpoint"))


def register_version(round: Round, stage: Stage) -> Version:
    """The candidate that a stage made, such as policy-r12-3fa9c1d2 or reward-baseline-r12-77b0e4aa."""
    checkpoint = stage.result["checkpoint"]
    kind = KINDS[stage.stage]
    prefix = stage.name.replace("_", "-").replace("preference", "policy")
    version, _ = Version.objects.get_or_create(
        project_id=round.project_id,
        name=f"{prefix}-r{round.number}-{checkpoint['sha256'][:8]}",
        defaults={
            "kind": kind,
            "path": checkpoint["path"],
            "digest": checkpoint["sha256"],
            "parent_id": round.parent_id,
            "round": round,
            "snapshot_id": round.snapshot_id,
            "card": read_card(checkpoint["path"]),
        },
    )
    return version


def audit_versions(round: Round, stage: Stage, versions: dict[str, Version]) -> None:
    """Record the evaluation for each version that it measured; the baseline arm is only what it compared with."""
    inputs = next(spec["inputs"] for spec in round.recipe["stages"] if spec["name"] == stage.name)
    for name in ("reward", "policy"):
        kind, _, made_by = inputs.get(name, "").partition(":")
        if kind == "stage" and made_by in versions:
            path = str(Path(stage.output) / "result.json")
            record_audit(version=versions[made_by], stage=stage, result=stage.result, result_path=path)


def read_card(checkpoint: str) -> dict:
    try:
        return json.loads((Path(checkpoint) / "card.json").read_text(), parse_constant=lambda name: None)
    except (OSError, ValueError):
        return {}
