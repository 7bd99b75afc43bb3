"""Promotion without a person: a scheduled round's candidate answers where its project's gate passes and says so."""

import structlog

from labelapp.models import Round, RoundEvent, Version
from labelapp.rounds.decision import decide
from labelapp.rounds.gate import PASS
from labelapp.rounds.promote import SwitchRefused, deployment_of, promote

log = structlog.get_logger(__name__)


def promote_if_passed(round: Round) -> None:
    """Promote what a round made that began by itself, if the project asks for it; write down what came of it.

    The round is over and stays done, whatever happens here. Doing it again changes nothing.
    """
    if not began_by_itself(round) or round.events.filter(kind__in=["promoted", "not_promoted"]).exists():
        return None
    candidate = round.versions.filter(kind=Version.Kind.POLICY, state=Version.State.CANDIDATE).order_by("-pk").first()
    if candidate is None:
        return None
    decision = decide(candidate)
    if decision.settings is None or not decision.settings.promote_on_pass:
        return None
    if decision.verdict != PASS:
        return note(round, "not_promoted", f"The gate says {decision.verdict}.", candidate)
    deployment = deployment_of(round.project)
    reason = f"The gate passed the candidate of round {round.number}."
    try:
        promote(
            deployment=deployment, version=candidate, by=None, reason=reason, seen_epoch=deployment.epoch, by_gate=True
        )
    except SwitchRefused as refusal:
        return note(round, "not_promoted", str(refusal), candidate)
    return note(round, "promoted", reason, candidate)


def began_by_itself(round: Round) -> bool:
    """Whether a schedule launched it, and it is done."""
    if round.created_by_id or round.state != Round.State.DONE:
        return False
    return round.events.filter(kind="launched", detail__has_key="why").exists()


def note(round: Round, kind: str, why: str, candidate: Version) -> None:
    RoundEvent.objects.create(round=round, kind=kind, detail={"version": candidate.name, "because": why})
    log.info("gate decided", round=round.pk, version=candidate.name, outcome=kind, why=why)
