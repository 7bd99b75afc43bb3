"""The loop of one project at a glance: six steps with their figures, and what is next for a person in this role."""

from typing import NamedTuple

from django.urls import NoReverseMatch, reverse

from labelapp.accounts.permissions import may
from labelapp.datasets.counts import project_counts
from labelapp.models import Audit, Deployment, Project, Round, Snapshot, Version
from labelapp.models.rounds import ACTIVE_STATES


class Facts(NamedTuple):
    """The latest row of every step, as far as there is one."""

    counts: dict[str, int]
    snapshot: Snapshot | None
    unfrozen: int  # judgments made since the newest snapshot
    round: Round | None
    trained: bool  # whether some round has used the newest snapshot
    candidate: Version | None
    audit: Audit | None
    deployment: Deployment | None


class Step(NamedTuple):
    """A step of the loop. `address` is empty where there is no row yet."""

    name: str
    figure: str
    detail: str
    address: str
    state: str  # "done", "waiting", or "halted" by the gate; "now" for the step that is next


class Next(NamedTuple):
    """What a person should do, in a sentence, and where. `post` says that the button acts at once."""

    step: str
    text: str
    button: str
    address: str
    post: bool = False


def gather(project: Project) -> Facts:
    counts = project_counts(project)
    snapshot = project.snapshots.first()
    deployment = project.deployments.select_related("version", "pending").order_by("pk").first()
    candidate = _candidate(project, deployment)
    return Facts(
        counts=counts,
        snapshot=snapshot,
        unfrozen=max(0, counts["judgments"] - (seen_by(snapshot) if snapshot else 0)),
        round=project.rounds.filter(kind=Round.Kind.TRAINING).first(),
        trained=bool(snapshot) and snapshot.rounds.exists(),
        candidate=candidate,
        audit=candidate.audits.first() if candidate else None,
        deployment=deployment,
    )


def seen_by(snapshot: Snapshot) -> int:
    """Judgments that a snapshot holds, or left out because their prompt reads like a test prompt."""
    return snapshot.judgments + snapshot.manifest["counts"].get("judgments_left_out", 0)


def _candidate(project: Project, deployment: Deployment | None) -> Version | None:
    """The newest policy that is newer than the one that answers and was not promoted yet."""
    policies = project.versions.filter(kind=Version.Kind.POLICY)
    newest = policies.first()
    return newest if newest and newest.state == Version.State.CANDIDATE else None


def address_of(name: str, *args) -> str:
    """The address of a page, or nothing where this installation has no such page."""
    try:
        return reverse(name, args=args)
    except NoReverseMatch:
        return ""


def next_for(role: str, project: Project, facts: Facts) -> Next:
    """The first thing that keeps the loop from going on, for somebody in this role."""
    manages, slug = may(role, "manage"), project.slug
    if not facts.counts["judgments"]:
        text = "There is no judgment yet. Import preferences, or let people compare."
        return Next("Judge", text, "Import" if manages else "", address_of("data", slug))
    if facts.round and facts.round.state in ACTIVE_STATES:
        address = address_of("round", slug, facts.round.number)
        return Next("Train", f"Round {facts.round.number} is {facts.round.state}.", "Watch it", address)
    # A candidate that somebody decided to leave must not stand in the way: new judgments come first.
    if facts.candidate and not _is_blocked(facts.audit) and not facts.unfrozen:
        address = address_of("version", slug, facts.candidate.name)
        text = f"{facts.candidate.name} waits for a decision: promote it, or leave it and let people judge on."
        return Next("Promote", text, "See its figures", address)
    if not facts.snapshot or facts.unfrozen:
        many = f"{facts.unfrozen:,} judgments are" if facts.unfrozen != 1 else "1 judgment is"
        return Next("Freeze", f"{many} in no snapshot yet.", "Freeze them", address_of("data_freeze", slug), post=True)
    if not facts.trained:
        text = f"Snapshot {facts.snapshot} is ready to train on."
        if manages and (address := address_of("round_new", slug)):
            return Next("Train", text, "Launch a round", address)
        return Next("Train", text, "See the snapshot", address_of("snapshot", slug, facts.snapshot.digest))
    if not facts.counts["open"]:
        text = "No comparison waits for a judgment: sample new ones from the policy, or import some."
        return Next("Judge", text, "Sample or import" if manages else "", address_of("versions", slug))
    text = f"{facts.counts['open']:,} comparisons wait for people to judge them."
    if may(role, "label"):
        return Next("Judge", text, "Compare", address_of("label", slug))
    return Next("Judge", text, "See them", address_of("comparisons", slug) + "?state=open")


def _is_blocked(audit: Audit | None) -> bool:
    return bool(audit) and audit.verdict == Audit.Verdict.BLOCK


def steps_of(project: Project, facts: Facts, upcoming: str) -> list[Step]:
    """The loop in its order. `upcoming` names the step that is next."""
    steps = [
        _judge(project, facts),
        _freeze(project, facts),
        _train(project, facts),
        _gate(project, facts),
        _promote(project, facts),
        _serve(project, facts),
    ]
    return [step._replace(state="now") if step.name == upcoming else step for step in steps]


def _judge(project: Project, facts: Facts) -> Step:
    counts = facts.counts
    detail = f"judgments · {counts['open']:,} comparisons open"
    address = address_of("judgments", project.slug)
    return Step("Judge", f"{counts['judgments']:,}", detail, address, _done(counts["judgments"]))


def _freeze(project: Project, facts: Facts) -> Step:
    if not (found := facts.snapshot):
        return Step("Freeze", "not yet", "no snapshot", "", "waiting")
    detail = f"{found.pairs_train:,} pairs to train on, {found.pairs_test:,} to test on"
    return Step("Freeze", str(found), detail, address_of("snapshot", project.slug, found.digest), "done")


def _train(project: Project, facts: Facts) -> Step:
    if not (found := facts.round):
        return Step("Train", "not yet", "no round", "", "waiting")
    address = address_of("round", project.slug, found.number)
    return Step("Train", f"Round {found.number}", found.state, address, _done(found.state == Round.State.DONE))


def _gate(project: Project, facts: Facts) -> Step:
    if not (found := facts.candidate):
        return Step("Gate", "not yet", "no candidate", "", "waiting")
    verdict = facts.audit.get_verdict_display().lower() if facts.audit else "not measured"
    state = "halted" if _is_blocked(facts.audit) else _done(facts.audit)
    return Step("Gate", verdict, found.name, address_of("version", project.slug, found.name), state)


def _promote(project: Project, facts: Facts) -> Step:
    if not (found := facts.deployment) or not found.version:
        return Step("Promote", "not yet", "no version", "", "waiting")
    address = address_of("version", project.slug, found.version.name)
    switching = f", switching to {found.pending.name}" if found.pending else ""
    return Step("Promote", found.version.name, f"epoch {found.epoch}{switching}", address, "done")


def _serve(project: Project, facts: Facts) -> Step:
    if not (found := facts.deployment) or not found.version:
        return Step("Serve", "not yet", "nothing answers", "", "waiting")
    address = address_of("serving", project.slug)
    return Step("Serve", found.alias, "answers at /v1/chat/completions", address, "done")


def _done(is_done) -> str:
    return "done" if is_done else "waiting"
