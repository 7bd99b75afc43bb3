"""Which version answers. Every write to Deployment and DeploymentEvent happens here.

A switch is one transaction that moves the epoch from the one the person has seen to the next. A version that the engine
has not loaded waits as `pending`; the engine's process ends the wait with `activate_pending` or `fail_pending`.
"""

import time
from typing import Any, NamedTuple

from django.db import transaction
from django.db.models import F, QuerySet
from django.utils import timezone

from alignment.manifest import ArtifactError, verify
from labelapp import storage
from labelapp.models import (
    Audit,
    Deployment,
    DeploymentEvent,
    EngineVersion,
    GateOverride,
    Project,
    User,
    Version,
)
from labelapp.rounds.decision import Decision, decide
from labelapp.rounds.gate import latest_audit

PROMOTE, ROLLBACK = Deployment.Action.PROMOTE, Deployment.Action.ROLLBACK
NOT_PENDING = {
    "pending": None, "pending_since": None, "pending_action": "", "pending_by": None, "pending_reason": "",
    "pending_gate": {},
}  # fmt: skip


class SwitchRefused(Exception):
    """The alias stays where it is. The message names why and what to do."""


class NotAPolicy(SwitchRefused):
    """Only a policy of the deployment's own project can answer."""


class AlreadyServed(SwitchRefused):
    """The alias points there already."""


class ArtifactChanged(SwitchRefused):
    """The checkpoint is missing or its bytes differ from its digest."""


class ReasonRequired(SwitchRefused):
    """The gate did not pass, so a named person must say why the version goes ahead all the same."""


class SecondPersonRequired(SwitchRefused):
    """The gate did not pass, and the project has asked that a second admin confirms."""


class StaleEpoch(SwitchRefused):
    """Somebody moved the alias since this person looked."""


class SwitchPending(SwitchRefused):
    """Another version is being loaded for this alias."""


class NothingToRollBack(SwitchRefused):
    """The alias has had no other version."""


class Promotion(NamedTuple):
    """The deployment after the call, and the event of its new epoch; None while the version is still being loaded."""

    deployment: Deployment
    event: DeploymentEvent | None


class Switch(NamedTuple):
    """What a person asked for."""

    deployment: Deployment
    version: Version
    action: str
    by: User | None
    reason: str
    seen_epoch: int
    gate: dict[str, Any]  # Decision.record


def deployment_of(project: Project, alias: str = "policy") -> Deployment:
    """The project's public alias; made on first use, with no version behind it."""
    return Deployment.objects.get_or_create(project=project, alias=alias)[0]


def is_loaded(version: Version) -> bool:
    """Whether the engine holds the version, canaried, so that a switch to it takes effect at once."""
    return EngineVersion.objects.filter(version=version, state=EngineVersion.State.READY).exists()


def promote(
    *,
    deployment: Deployment,
    version: Version,
    by: User | None,
    reason: str = "",
    seen_epoch: int,
    override: GateOverride | None = None,
    by_gate: bool = False,
) -> Promotion:
    """Point the alias at the version, or mark it pending until the engine has loaded it.

    Args:
        override: in which a second person agreed to go against the gate; overrides.py alone gives one.
        by_gate: that nobody asked, but the gate passed.

    Raises NotAPolicy, AlreadyServed, ReasonRequired, SecondPersonRequired, ArtifactChanged, StaleEpoch or
    SwitchPending.
    """
    began = time.monotonic()
    refuse_unfit(deployment, version)
    decision = require_reason(version, by, reason.strip(), confirmed=override is not None)
    record = decision.record | {"by_gate": by_gate, "override": override and override.pk}
    return _switch(Switch(deployment, version, PROMOTE, by, reason.strip(), seen_epoch, record), began)


def rollback(*, deployment: Deployment, by: User | None, reason: str = "", seen_epoch: int) -> Promotion:
    """Point the alias back at the version of the epoch before; a second rollback undoes the first.

    The gate is not asked: that version has answered before. Raises NothingToRollBack, ArtifactChanged, StaleEpoch or
    SwitchPending.
    """
    began = time.monotonic()
    if not (version := rollback_target(deployment, seen_epoch)):
        raise NothingToRollBack(f"{deployment.alias} has had no version before this one; promote another instead.")
    verify_artifact(version)
    return _switch(Switch(deployment, version, ROLLBACK, by, reason.strip(), seen_epoch, {}), began)


def found_alias(*, project: Project, version: Version, by: User, reason: str) -> DeploymentEvent | None:
    """Point a new project's alias at its first version without waiting for an engine: none may run yet, and no earlier
    version answers meanwhile. None, changing nothing, where the alias has a history.

    Raises NotAPolicy, ReasonRequired or ArtifactChanged.
    """
    began, deployment = time.monotonic(), deployment_of(project)
    if deployment.epoch or deployment.pending_id:
        return None
    refuse_unfit(deployment, version)
    decision = require_reason(version, by, reason)
    switch = Switch(deployment, version, PROMOTE, by, reason, 0, decision.record)
    return _move(switch, _settled(switch), seconds=time.monotonic() - began)


def rollback_target(deployment: Deployment, epoch: int | None = None) -> Version | None:
    """The version that answered before the given epoch, the current one by default."""
    epoch = deployment.epoch if epoch is None else epoch
    event = deployment.events.filter(epoch=epoch).select_related("previous").first()
    return event.previous if event else None


def cancel_pending(*, deployment: Deployment) -> bool:
    """Give up a switch that still waits for the engine; False where none waits."""
    return bool(_waiting(deployment).update(**NOT_PENDING))


@transaction.atomic
def activate_pending(deployment: Deployment) -> DeploymentEvent | None:
    """Move the epoch to the pending version; called by the engine's process when it is loaded and canaried.

    Returns None, changing nothing, where no switch waits or its version is not loaded (any more).
    """
    row = _waiting(deployment).select_for_update(of=("self",)).select_related("pending", "pending_by").first()
    if row is None or not is_loaded(row.pending):
        return None
    asked = (row.pending_action, row.pending_by, row.pending_reason, row.epoch, row.pending_gate)
    switch = Switch(row, row.pending, *asked)
    return _move(switch, _waiting(row), seconds=(timezone.now() - row.pending_since).total_seconds())


def fail_pending(deployment: Deployment, *, version: Version, error: str) -> bool:
    """Give up the switch to a version that the engine could not load, and say why; False where it no longer waits."""
    return bool(_waiting(deployment).filter(pending=version).update(**NOT_PENDING, pending_error=error))


def refuse_unfit(deployment: Deployment, version: Version) -> None:
    """Raise for a version that this alias can never point at, or points at already."""
    if version.project_id != deployment.project_id:
        raise NotAPolicy(f"{version.name} belongs to another project.")
    if version.kind != Version.Kind.POLICY:
        raise NotAPolicy(f"{version.name} is a {version.kind} model; only a policy can answer.")
    if deployment.version_id == version.pk:
        raise AlreadyServed(f"{deployment.alias} already points at {version.name}.")
    verify_artifact(version)


def require_reason(version: Version, by: User | None, reason: str, *, confirmed: bool = False) -> Decision:
    """The gate's answer. Raise unless it passed, or a named person gives a reason and whoever must confirms it."""
    decision = decide(version)
    said = f"The gate of {version.name} says {decision.verdict}"
    if decision.verdict == Audit.Verdict.PASS:
        return decision
    if not (by and reason):
        needed = "give a reason to promote it anyway" if by else "only a named person may promote it anyway"
        raise ReasonRequired(f"{said}; {needed}. {' '.join(decision.reasons)}".strip())
    if decision.settings and decision.settings.second_person and not confirmed:
        raise SecondPersonRequired(f"{said}; ask a second admin to confirm it, on the page of the version.")
    return decision


def verify_artifact(version: Version) -> None:
    """Raise ArtifactChanged unless every byte of the checkpoint is the one its digest vouches for.

    Of what only the bucket has, the manifest is checked here, and every byte by the engine that fetches it.
    """
    try:
        if storage.is_here(version.path):
            verify(version.path, version.digest)
        else:
            storage.manifest_at_hand(version.path, version.digest)
    except (ArtifactError, OSError, storage.StoreAway) as error:
        raise ArtifactChanged(f"The checkpoint of {version.name} cannot be served: {error}.") from error


def _switch(switch: Switch, began: float) -> Promotion:
    """Move at once to a loaded version; let any other wait."""
    if is_loaded(switch.version):
        event = _move(switch, _settled(switch), seconds=time.monotonic() - began)
        return Promotion(Deployment.objects.get(pk=switch.deployment.pk), event)
    wanted = {
        "pending": switch.version, "pending_since": timezone.now(), "pending_action": switch.action,
        "pending_by": switch.by, "pending_reason": switch.reason, "pending_gate": switch.gate, "pending_error": "",
    }  # fmt: skip
    if not _settled(switch).update(**wanted):
        _raise_why_not(switch)
    return Promotion(Deployment.objects.get(pk=switch.deployment.pk), None)


@transaction.atomic
def _move(switch: Switch, rows: QuerySet, *, seconds: float) -> DeploymentEvent:
    """The only place where an epoch moves. The conditional UPDATE decides between people who click together."""
    previous = _version_at(switch.deployment, switch.seen_epoch)
    moved = rows.filter(epoch=switch.seen_epoch).update(
        version=switch.version, epoch=F("epoch") + 1, pending_error="", **NOT_PENDING
    )
    if not moved:
        _raise_why_not(switch)
    _restate(switch.version, previous)
    event = DeploymentEvent.objects.create(
        deployment=switch.deployment,
        epoch=switch.seen_epoch + 1,
        action=switch.action,
        version=switch.version,
        previous=previous,
        audit=latest_audit(switch.version),
        by=switch.by,
        reason=switch.reason,
        gate=switch.gate,
        switch_seconds=round(seconds, 3),
    )
    if switch.gate.get("override"):
        GateOverride.objects.filter(pk=switch.gate["override"]).update(event=event)
    return event


def _restate(version: Version, previous: Version | None) -> None:
    """Promoted means served by some alias now, retired means served before, candidate means never served."""
    Version.objects.filter(pk=version.pk).update(state=Version.State.PROMOTED)
    if previous:
        Version.objects.filter(pk=previous.pk, deployments=None).update(state=Version.State.RETIRED)


def _version_at(deployment: Deployment, epoch: int) -> Version | None:
    """The version of an epoch, from its event: the event cannot change, so the answer is good before the UPDATE."""
    event = DeploymentEvent.objects.filter(deployment=deployment, epoch=epoch).select_related("version").first()
    return event.version if event else None


def _settled(switch: Switch) -> QuerySet:
    """The deployment's row, if it is as the person has seen it and nothing waits."""
    return Deployment.objects.filter(pk=switch.deployment.pk, epoch=switch.seen_epoch, pending=None)


def _waiting(deployment: Deployment) -> QuerySet:
    return Deployment.objects.filter(pk=deployment.pk, pending__isnull=False)


def _raise_why_not(switch: Switch) -> None:
    now = Deployment.objects.select_related("version", "pending").get(pk=switch.deployment.pk)
    if now.epoch != switch.seen_epoch:
        raise StaleEpoch(
            f"{now.alias} has moved to epoch {now.epoch} ({now.version}) since you saw epoch {switch.seen_epoch}; "
            "look at it again."
        )
    raise SwitchPending(f"{now.alias} is waiting for {now.pending} to load; cancel that first.")
