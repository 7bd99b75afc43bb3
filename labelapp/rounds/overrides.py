"""Going against the gate by two people: one admin asks with a reason, another one confirms, which promotes."""

from django.db import IntegrityError, transaction
from django.db.models.functions import Now

from labelapp.models import Deployment, GateOverride, User, Version
from labelapp.rounds.decision import Decision, decide
from labelapp.rounds.promote import Promotion, SwitchRefused, promote, refuse_unfit, require_reason


class OverrideRefused(SwitchRefused):
    """Nobody goes against the gate like this. The message names why and what to do."""


def ask_override(*, deployment: Deployment, version: Version, by: User, reason: str) -> GateOverride:
    """Ask a second admin. Raises OverrideRefused where one was asked already, and what `promote` does."""
    refuse_unfit(deployment, version)
    decision = require_reason(version, by, reason.strip(), confirmed=True)
    try:
        with transaction.atomic():
            return GateOverride.objects.create(
                deployment=deployment, version=version, gate=decision.record, reason=reason.strip(), asked_by=by
            )
    except IntegrityError as error:
        if "one_open_override_per_version" in str(error):
            raise OverrideRefused(f"{version.name} waits for a second admin already.") from error
        raise


@transaction.atomic
def confirm_override(*, override: GateOverride, by: User, seen_epoch: int) -> Promotion:
    """Agree, and promote. Raises OverrideRefused for the one who asked, an answered request, or a gate that moved."""
    row = GateOverride.objects.select_for_update().select_related("deployment", "version__project").get(pk=override.pk)
    if row.confirmed_at or row.withdrawn_at:
        raise OverrideRefused(f"The request for {row.version.name} was answered already.")
    if row.asked_by_id == by.pk:
        raise OverrideRefused("You asked for it yourself; another admin must confirm it.")
    if moved(row, decide(row.version)):
        raise OverrideRefused("The gate or the version that answers has changed since it was asked for; ask again.")
    GateOverride.objects.filter(pk=row.pk).update(confirmed_by=by, confirmed_at=Now())
    return promote(
        deployment=row.deployment, version=row.version, by=by, reason=row.reason, seen_epoch=seen_epoch, override=row
    )


def moved(override: GateOverride, now: Decision) -> bool:
    """Whether the gate speaks of something else than when the override was asked for."""
    return any(now.record[part] != override.gate[part] for part in ("verdict", "settings", "champion"))


def withdraw_override(*, override: GateOverride, by: User) -> bool:
    """Close a request that nobody has confirmed; False where it was answered."""
    rows = open_overrides().filter(pk=override.pk)
    return rows.update(withdrawn_by=by, withdrawn_at=Now()) == 1


def open_overrides():
    return GateOverride.objects.filter(confirmed_at=None, withdrawn_at=None)
