"""What a round is expected to take: by a dry run of the same plan, or by an earlier round that ran it."""

import hashlib
import json
from typing import Any

from labelapp.models import Estimate, Project, Round, Snapshot, Version
from labelapp.rounds.budget import CPU, Expected, booked_seconds
from labelapp.rounds.saved import Plan


def plan_digest(stages: list[dict[str, Any]]) -> str:
    """Of planned stages, before a snapshot and a seed add anything to them."""
    return hashlib.sha256(json.dumps(stages, sort_keys=True).encode()).hexdigest()


def expected_of(*, project: Project, plan: Plan, snapshot: Snapshot, parent: Version) -> Expected | None:
    """The newest dry run of this plan on this data and parent, else the newest round of this plan; else None."""
    digest = plan_digest(plan.stages)
    done = project.estimates.filter(plan=digest, state=Estimate.State.DONE)
    if exact := done.filter(snapshot=snapshot, parent=parent).first():
        return by_dry_run(exact)
    earlier = project.rounds.filter(state=Round.State.DONE, expected__plan=digest, bookings__isnull=False)
    if round := earlier.select_related("snapshot").first():
        return by_round(round, digest, snapshot)
    if similar := done.select_related("snapshot").first():
        return by_dry_run(similar, grown=growth(similar.snapshot, snapshot))
    return None


def growth(before: Snapshot, now: Snapshot) -> float:
    """How many times the data; fewer do not count, as much of a round does not depend on them."""
    return max(1.0, (now.pairs_train + now.pairs_test) / max(1, before.pairs_train + before.pairs_test))


def by_dry_run(estimate: Estimate, grown: float = 1.0) -> Expected:
    stages = estimate.found["stages"]
    more = f", for {grown:.1f} times the data" if grown > 1 else ""
    return Expected(
        plan=estimate.plan,
        device_seconds=grown * sum(stage["whole_seconds"] for stage in stages),
        device=estimate.found.get("device", CPU),
        peak_bytes=max(stage.get("device_peak_bytes") or stage["peak_bytes"] for stage in stages),
        source=f"a dry run{more}",
        stages={stage["name"]: grown * stage["whole_seconds"] for stage in stages},
    )


def by_round(round: Round, digest: str, snapshot: Snapshot) -> Expected:
    """As an earlier round with the same plan, scaled with the data; its parent may have been another one."""
    booking, grown = round.booking, growth(round.snapshot, snapshot)
    seconds = {stage.name: grown * (stage.result or {}).get("seconds", 0.0) for stage in round.stages.all()}
    more = f", for {grown:.1f} times the data" if grown > 1 else ""
    return Expected(
        plan=digest,
        device_seconds=grown * booked_seconds(round),
        device=booking.device,
        peak_bytes=booking.peak_bytes or 0,
        source=f"round {round.number}, which ran the same plan{more}",
        stages=seconds,
    )


def expected_sampling(project: Project, recipe: dict[str, Any]) -> Expected | None:
    """As the newest sampling round of this name took, a prompt; None before the first."""
    done = project.rounds.filter(kind=Round.Kind.SAMPLING, state=Round.State.DONE, bookings__isnull=False)
    last = done.filter(recipe__name=recipe["name"]).first()
    if last is None:
        return None
    seconds = booked_seconds(last) * prompts_of(recipe) / prompts_of(last.recipe)
    source = f"round {last.number}, by its prompts"
    return Expected("", seconds, last.booking.device, last.booking.peak_bytes or 0, source)


def prompts_of(recipe: dict[str, Any]) -> int:
    return max(1, len(recipe.get("prompts") or []))
