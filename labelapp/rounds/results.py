"""What a finished round leaves behind: versions with their lineage, and their audits."""

import json
from pathlib import Path

from labelapp import storage
from labelapp.models import Round, Stage, Version
from labelapp.rounds import lease
from labelapp.rounds.gate import SUITES, record_audit

POLICIES = ("sft", "preference", "online_dpo", "grpo", "ppo", "safe", "safe_ppo")  # stages that make one
KINDS = {"reward": Version.Kind.REWARD} | dict.fromkeys(POLICIES, Version.Kind.POLICY)


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
    """A version for each checkpoint, and an audit for each measurement. Doing it again finds the same rows."""
    stages, versions = list(round.stages.order_by("number")), {}
    for stage in filter(makes_version, stages):
        versions[stage.name] = register_version(round, stage, versions)
    # The evaluation last: the gate goes by the newest audit.
    for stage in sorted(stages, key=lambda stage: stage.stage == "evaluate"):
        if stage.stage in SUITES:
            audit_versions(round, stage, versions)
    return list(versions.values())


def makes_version(stage: Stage) -> bool:
    return stage.stage in KINDS and bool((stage.result or {}).get("checkpoint"))


def register_version(round: Round, stage: Stage, made: dict[str, Version]) -> Version:
    """The candidate that a stage made, such as policy-r12-3fa9c1d2 or reward-baseline-r12-77b0e4aa.

    made: versions of the round's earlier stages, by stage; one of them may be this one's parent.
    """
    checkpoint = stage.result["checkpoint"]
    here = storage.at_hand(checkpoint["path"], checkpoint["sha256"])
    kind = KINDS[stage.stage]
    prefix = "policy" if kind == Version.Kind.POLICY else stage.name.replace("_", "-")
    parent = inputs_of(round, stage).get("parent", "").removeprefix("stage:")
    version, _ = Version.objects.get_or_create(
        project_id=round.project_id,
        name=f"{prefix}-r{round.number}-{checkpoint['sha256'][:8]}",
        defaults={
            "kind": kind,
            "path": checkpoint["path"],
            "digest": checkpoint["sha256"],
            "parent_id": made[parent].pk if parent in made else round.parent_id,
            "round": round,
            "snapshot_id": round.snapshot_id,
            "card": read_card(here),
        },
    )
    return version


def inputs_of(round: Round, stage: Stage) -> dict[str, str]:
    return next(spec["inputs"] for spec in round.recipe["stages"] if spec["name"] == stage.name)


def audit_versions(round: Round, stage: Stage, versions: dict[str, Version]) -> None:
    """Record the figures for each version that they are of; a baseline arm is only what it was compared with."""
    inputs = inputs_of(round, stage)
    for name in ("reward", "policy"):
        kind, _, made_by = inputs.get(name, "").partition(":")
        if kind == "stage" and made_by in versions:
            path = str(storage.file_at_hand(Path(stage.output) / "result.json"))
            record_audit(version=versions[made_by], stage=stage, result=stage.result, result_path=path)


def read_card(checkpoint: str) -> dict:
    try:
        return json.loads((Path(checkpoint) / "card.json").read_text(), parse_constant=lambda name: None)
    except (OSError, ValueError):
        return {}
