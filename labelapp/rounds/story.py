"""A round as plain data, for scripts."""

from labelapp.models import Round


def told_round(round: Round) -> dict:
    """What `launch --json` and `rounds --json` print; times are ISO 8601."""
    return {
        "project": round.project.slug,
        "number": round.number,
        "kind": round.kind,
        "state": round.state,
        "recipe": round.recipe["name"],
        "mitigation": round.mitigation,
        "seed": round.seed,
        "snapshot": round.snapshot and round.snapshot.digest,
        "parent": round.parent and round.parent.name,
        "attempt": round.attempt,
        "error_code": round.error_code,
        "error": round.error,
        "stages": [
            {"name": stage.name, "state": stage.state, "step": stage.step, "steps": stage.steps, "output": stage.output}
            for stage in round.stages.all()
        ],
        "versions": [version.name for version in round.versions.order_by("pk")],
        "created_at": iso(round.created_at),
        "started_at": iso(round.started_at),
        "finished_at": iso(round.finished_at),
    }


def iso(moment) -> str | None:
    return moment and moment.isoformat()
