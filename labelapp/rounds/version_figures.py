"""An audit as its pages show it: every figure with its interval, what stands beside it, and the row that holds it."""

from typing import NamedTuple

from labelapp.models import Audit, AuditMetric, Project, Version
from labelapp.rounds import figures
from labelapp.rounds.decision import decide

HEADLINES = {Version.Kind.POLICY: ["win_rate", "reward_accuracy"]}
DIFFERENCES = {"accuracy_price"}
REWARD_HEADLINES = ["reward_accuracy", "counterfactual_flip_rate"]


class Beside(NamedTuple):
    """A trivial baseline, or the parent's or the labels' own figure, next to the measured one."""

    name: str
    text: str


class Figure(NamedTuple):
    """One AuditMetric in words. `below` says by which trivial baseline it is beaten; empty where by none."""

    pk: int
    key: str
    name: str
    text: str
    interval: str
    n: int | None
    clusters: int | None
    beside: list[Beside]
    below: str
    note: str
    verdict: str


class Pair(NamedTuple):
    """One figure without and with the mitigation, measured on the same rows: the change has its own paired interval."""

    name: str
    off: str
    on: str
    change: str
    interval: str
    pk: int


def figure_of(metric: AuditMetric) -> Figure:
    unit = metric.unit
    return Figure(
        pk=metric.pk,
        key=metric.key,
        name=figures.name(metric.key),
        text=measured(metric),
        interval=figures.interval(metric.low, metric.high, unit),
        n=metric.n,
        clusters=metric.clusters,
        beside=[Beside(figures.baseline(key), figures.text(value, unit)) for key, value in strongest_first(metric)],
        below=below_baseline(metric),
        note=other_notes(metric.note),
        verdict=metric.verdict,
    )


def measured(metric: AuditMetric) -> str:
    """The value with its unit; a difference of two shares in percentage points."""
    written = figures.text(metric.value, metric.unit)
    return written.replace(" %", " pp") if metric.key in DIFFERENCES else written


def other_notes(note: str) -> str:
    """The trainer's notes without the one about the trivial baseline, which `below` repeats in the page's words."""
    return "; ".join(part for part in note.split("; ") if "the trivial baseline" not in part)


def strongest_first(metric: AuditMetric) -> list[tuple[str, float]]:
    return sorted(metric.baselines.items(), key=lambda item: item[1], reverse=True)


def below_baseline(metric: AuditMetric) -> str:
    """The trivial baseline that does at least as well as the reward model; empty where none does."""
    if metric.key != "reward_accuracy" or metric.value is None or not metric.baselines:
        return ""
    name, best = strongest_first(metric)[0]
    if metric.value > best:
        return ""
    relation = "below" if metric.value < best else "no better than"
    return f"{relation} the trivial baseline {figures.baseline(name)} ({figures.text(best, metric.unit)})"


def split_figures(audit: Audit) -> tuple[list[Figure], list[Pair]]:
    """The audit's figures, and the pairs of the mitigation's two arms."""
    metrics = {metric.key: metric for metric in audit.metrics.all()}
    changes = [key for key in metrics if key.endswith("_change") and key.removesuffix("_change") in metrics]
    plain = [figure_of(metric) for key, metric in metrics.items() if key not in changes]
    return plain, [pair_of(metrics[key.removesuffix("_change")], metrics[key]) for key in changes]


def pair_of(on: AuditMetric, change: AuditMetric) -> Pair:
    """Off is on minus the change: both arms were measured on the same rows."""
    known = on.value is not None and change.value is not None
    return Pair(
        name=figures.name(on.key),
        off=figures.text(on.value - change.value if known else None, on.unit),
        on=figures.text(on.value, on.unit),
        change=signed(change.value, on.unit),
        interval=figures.interval(change.low, change.high, on.unit),
        pk=change.pk,
    )


class Sides(NamedTuple):
    """What a paired table compares."""

    title: str
    about: str
    before: str
    after: str


def sides_of(audit: Audit) -> Sides:
    """What the stage was asked to compare with; see recipes.py and actions.compare_with."""
    spec = next((spec for spec in audit.stage.round.recipe["stages"] if spec["name"] == audit.stage.name), {})
    if "policy_champion" in spec.get("inputs", {}):
        about = "Both answered the same items; the intervals are paired."
        return Sides("Beside its parent", about, "Parent", "Candidate")
    if earlier := spec.get("inputs", {}).get("reward_champion", ""):
        about = "What the judgments since then moved, on the same held-out pairs; the intervals are paired."
        found = Version.objects.filter(pk=earlier.removeprefix("version:")).first()
        return Sides(f"Beside {found}" if found else "Beside the earlier reward model", about, "Before", "Now")
    about = "Two reward models with the same seed and data, measured on the same rows; the intervals are paired."
    return Sides("The counterfactual penalty, off and on", about, "Off", "On")


def signed(value: float | None, unit: str) -> str:
    """A change with its sign; of a share in percentage points."""
    if value is None:
        return "–"
    points = " pp" if unit in figures.SHARES else figures.sign(unit)
    return f"{'+' if value > 0 else '−' if value < 0 else '±'}{figures.number(abs(value), unit)}{points}"


def headlines(version: Version, audit: Audit | None) -> list[Figure]:
    """The two figures that a list of versions shows."""
    if audit is None:
        return []
    wanted = HEADLINES.get(version.kind, REWARD_HEADLINES)
    by_key = {metric.key: metric for metric in audit.metrics.all()}
    return [figure_of(by_key[key]) for key in wanted if key in by_key]


class VersionRow(NamedTuple):
    """A line of the list of versions."""

    version: Version
    audit: Audit | None
    figures: list[Figure]
    verdict: str  # of a candidate by the gate that holds now, of others by their audit; empty where none was made
    reasons: list[str]


def version_rows(project: Project) -> list[VersionRow]:
    """Each version with its latest audit, in a few queries; in some more for a candidate of a project's own gate."""
    own_gate = project.gate_settings.exists()
    measured = project.versions.select_related("project", "parent", "round", "snapshot")
    rows = [(each, next(iter(each.audits.all()), None)) for each in measured.prefetch_related("audits__metrics")]
    return [VersionRow(each, audit, headlines(each, audit), *said_of(each, audit, own_gate)) for each, audit in rows]


def said_of(version: Version, audit: Audit | None, own_gate: bool) -> tuple[str, list[str]]:
    """(verdict, reasons)."""
    if own_gate and version.state == Version.State.CANDIDATE and audit:
        decision = decide(version)
        return decision.verdict, decision.reasons
    return (audit.verdict, audit.reasons) if audit else ("", [])
