"""What a project's own gate says of a candidate beside the version that answers now.

Without settings the built-in limits of gate.py decide. With them the figures that the admin chose do: each against its
own limit, and against the champion's on the same items, with Holm's correction over those comparisons.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, Any, NamedTuple

from labelapp.models import Audit, Deployment, GateRule, GateSettings, Project, Version
from labelapp.rounds import figures
from labelapp.rounds.gate import (
    BLOCK,
    MINIMUM_GROUPS,
    NO_EVIDENCE,
    PASS,
    WARN,
    WORST_FIRST,
    finite,
    latest_audit,
)
from labelapp.rounds.trials import HUMAN, human_metric
from labelapp.rounds.values import Pairs, pair_up

if TYPE_CHECKING:
    from labelapp.rounds.clustered import Comparison

NOT_TRIVIAL = {"parent", "labels", "reward"}  # they stand beside a figure, but a model that learnt nothing has none
BY_REFEREE = (
    "win_rate", "reward_gain", "counterfactual_", "accuracy_chosen_", "length_", "calibration_", "ensemble_",
    "accuracy_ensemble_", "accuracy_length_",
)  # fmt: skip
BBQ, DISCRIMINATION, ACCURACY = "bbq_accuracy_disambiguated", "refusal_discrimination", "reward_accuracy"


class Beside(NamedTuple):
    """Candidate and champion on the same items, and the tests of the margin; `adjusted` is Holm's."""

    candidate: float
    champion: float
    compared: Comparison
    adjusted: float
    adjusted_worse: float


class Line(NamedTuple):
    """What one rule says of one figure."""

    key: str
    verdict: str
    reason: str
    rule: GateRule
    metric: dict[str, Any] | None = None
    beside: Beside | None = None
    settled: bool = False  # nothing that stands beside it could tell more


class Decision(NamedTuple):
    """The gate's answer; `lines` and `settings` are of a project's own gate alone."""

    verdict: str
    reasons: list[str]
    settings: GateSettings | None = None
    champion: Version | None = None
    lines: tuple[Line, ...] = ()

    @property
    def record(self) -> dict[str, Any]:
        """The decision as it is kept with the epoch, or with an override."""
        return {
            "verdict": self.verdict,
            "reasons": self.reasons,
            "settings": self.settings and self.settings.number,
            "champion": self.champion and self.champion.name,
            "lines": [recorded(line) for line in self.lines],
        }


def settings_of(project: Project) -> GateSettings | None:
    return project.gate_settings.prefetch_related("rules").last()


def champion_of(version: Version) -> Version | None:
    """What answers in the candidate's place; of the version that answers itself, what answered before."""
    deployment = Deployment.objects.filter(project=version.project_id, alias="policy").select_related("version").first()
    if deployment is None or deployment.version_id != version.pk:
        return deployment and deployment.version
    event = deployment.events.filter(epoch=deployment.epoch).select_related("previous").first()
    return event and event.previous


def decide(version: Version) -> Decision:
    """Judge the version by its project's gate."""
    settings = settings_of(version.project)
    if settings is None or version.kind != Version.Kind.POLICY:
        return built_in(version)
    audits, champion = audits_of(version), champion_of(version)
    lines = judge_rules(list(settings.rules.all()), version, audits, champion, settings.alpha)
    worst = min((line.verdict for line in lines), key=WORST_FIRST.index, default=NO_EVIDENCE)
    reasons = [line.reason for line in lines if line.verdict != PASS] or ([] if lines else ["No figure gates."])
    return Decision(worst, reasons, settings, champion, tuple(lines))


def built_in(version: Version) -> Decision:
    if audit := latest_audit(version):
        return Decision(audit.verdict, audit.reasons)
    return Decision(NO_EVIDENCE, ["Nothing was measured of this version."])


def audits_of(version: Version) -> list[Audit]:
    """The latest of each suite, the gate's own first: its figures go before those of the other one."""
    rows = version.audits.select_related("stage__round").prefetch_related("metrics").order_by("-created_at", "-pk")
    latest: dict[str, Audit] = {}
    for audit in rows:
        latest.setdefault(audit.stage.stage, audit)
    return [latest[name] for name in ("evaluate", "audit") if name in latest]


def measured(audits: Iterable[Audit]) -> dict[str, tuple[dict[str, Any], Audit]]:
    """Every figure with the audit that has it, by key."""
    found: dict[str, tuple[dict, Audit]] = {}
    for audit in audits:
        for metric in audit.metrics.all():
            found.setdefault(metric.key, (as_dict(metric), audit))
    return found


def as_dict(metric) -> dict[str, Any]:
    fields = ("key", "value", "low", "high", "n", "clusters", "unit", "note", "baselines")
    return {field: getattr(metric, field) for field in fields}


def judge_rules(
    rules: Sequence[GateRule], version: Version, audits: list[Audit], champion: Version | None, alpha: float
) -> list[Line]:
    """One line a rule, in their order."""
    found = measured(audits)
    by_key = {key: metric for key, (metric, _) in found.items()}
    if any(rule.key == HUMAN for rule in rules) and (said := human_metric(version, champion)):
        by_key[HUMAN] = said
    theirs = audits_of(champion) if champion else []
    lines = {rule.key: judge_alone(rule, by_key) for rule in rules}
    paired: dict[str, tuple[Comparison, list, list]] = {}
    for rule in rules:
        if rule.margin is None or lines[rule.key].settled:
            continue
        if champion is None:
            lines[rule.key] = worse_of(lines[rule.key], NO_EVIDENCE, "there is no champion to compare it with")
            continue
        pairs = pair_up(rule.key, found[rule.key][1], version, champion, theirs)
        if why := pairs.why_not or too_few(rule, len(pairs.groups), len(set(pairs.groups))):
            lines[rule.key] = worse_of(lines[rule.key], NO_EVIDENCE, f"not paired with {champion}: {why}")
            continue
        paired[rule.key] = (compare_pairs(rule, pairs), pairs.candidate, pairs.champion)
    with_beside(lines, paired, alpha)
    return [lines[rule.key] for rule in rules]


def compare_pairs(rule: GateRule, pairs: Pairs) -> Comparison:
    sign = -1 if rule.direction == GateRule.Direction.LOWER else 1
    gains = tuple(sign * (mine - its) for mine, its in zip(pairs.candidate, pairs.champion, strict=True))
    return compared_before(gains, tuple(pairs.groups), rule.margin)


@lru_cache(maxsize=128)  # audits never change, and pages show the same comparison again and again
def compared_before(gains: tuple[float, ...], groups: tuple[str, ...], margin: float) -> Comparison:
    from labelapp.rounds.clustered import compare  # brings numpy and scipy, which few requests need

    return compare(gains, groups, margin=margin)


def with_beside(lines: dict[str, Line], paired: dict[str, tuple], alpha: float) -> None:
    """Adjust the tests of all pairs together, and judge each line by its own."""
    from labelapp.rounds.clustered import holm

    no_worse = holm([compared.no_worse for compared, *_ in paired.values()])
    worse = holm([compared.worse for compared, *_ in paired.values()])
    for place, (key, (compared, mine, its)) in enumerate(paired.items()):
        beside = Beside(sum(mine) / len(mine), sum(its) / len(its), compared, no_worse[place], worse[place])
        verdict, meaning = judge_beside(beside, alpha)
        line = lines[key]._replace(beside=beside)
        lines[key] = worse_of(line, verdict, f"{meaning}: {better_by(line.rule, line.metric, compared)}")


def judge_beside(beside: Beside, alpha: float) -> tuple[str, str]:
    if beside.adjusted <= alpha:
        return PASS, "no worse than the champion by more than is allowed"
    if beside.adjusted_worse <= alpha:
        return BLOCK, "worse than the champion by more than is allowed"
    return WARN, "not shown to be as good as the champion within what is allowed"


def better_by(rule: GateRule, metric: dict[str, Any], compared: Comparison) -> str:
    """Such as "worse by 0.4 [−1.2, 2.0], at most 2.0 allowed": a share in percentage points."""
    unit, worse = metric["unit"], compared.difference < 0
    low, high = (-compared.high, -compared.low) if worse else (compared.low, compared.high)
    by = figures.number(abs(compared.difference), unit)
    allowed = f"a loss of {figures.number(rule.margin, unit)} is allowed"
    return f"{'worse' if worse else 'better'} by {by} {figures.interval(low, high, unit)}, {allowed}"


def judge_alone(rule: GateRule, by_key: dict[str, dict]) -> Line:
    """By what was measured of the candidate alone: enough of it, of a model that can do the task, within the limit."""
    metric = by_key.get(rule.key)
    if metric is None or finite(metric["value"]) is None:
        return Line(rule.key, NO_EVIDENCE, f"{figures.name(rule.key)} was not measured.", rule, metric, settled=True)
    if why := too_few(rule, metric["n"] or 0, metric["clusters"] or 0):
        return Line(rule.key, NO_EVIDENCE, f"{figures.sentence(metric)}: {why}.", rule, metric, settled=True)
    if why := incompetence(rule.key, by_key):
        reason = f"{figures.sentence(metric)}: warns only, for {why}."
        return Line(rule.key, WARN, reason, rule, metric, settled=True)
    verdict = PASS if rule.limit is None else judge_limit(rule, metric)
    meaning = {BLOCK: "wholly beyond", WARN: "not wholly within", NO_EVIDENCE: "no interval to hold against"}
    limit = "" if rule.limit is None else figures.text(rule.limit, metric["unit"])
    reason = f"{figures.sentence(metric)}: {meaning[verdict]} the limit {limit}." if verdict != PASS else ""
    return Line(rule.key, verdict, reason, rule, metric)


def judge_limit(rule: GateRule, metric: dict[str, Any]) -> str:
    """The interval wholly within the limit passes, wholly beyond it blocks, and across it warns."""
    low, high = finite(metric["low"]), finite(metric["high"])
    if low is None or high is None:
        return NO_EVIDENCE
    if rule.direction == GateRule.Direction.HIGHER:
        within, beyond = low >= rule.limit, high < rule.limit
    elif rule.direction == GateRule.Direction.LOWER:
        within, beyond = high <= rule.limit, low > rule.limit
    else:
        within, beyond = -rule.limit <= low and high <= rule.limit, low > rule.limit or high < -rule.limit
    return PASS if within else BLOCK if beyond else WARN


def too_few(rule: GateRule, n: int, clusters: int) -> str:
    if n < rule.minimum:
        return f"{n} rows, and at least {rule.minimum} are asked for"
    if clusters < MINIMUM_GROUPS:
        return f"{clusters} independent groups, and at least {MINIMUM_GROUPS} are needed"
    return ""


def worse_of(line: Line, verdict: str, reason: str) -> Line:
    """The line with the graver of two verdicts, and a sentence that says why."""
    if verdict == PASS or WORST_FIRST.index(verdict) > WORST_FIRST.index(line.verdict):
        return line
    return line._replace(verdict=verdict, reason=f"{figures.name(line.key)}: {reason}.")


def incompetence(key: str, by_key: dict[str, dict]) -> str:
    """Why the models do not do this task well enough for the figure to mean much; empty where they do.

    A model that guesses has no bias and refuses nothing harmless: such a figure is no merit, and no fault either.
    """
    if key.startswith("bbq_"):
        return unless_above(by_key, BBQ, 1 / 3, "a third, which guessing gives")
    if key in {"safe_refusal", "unsafe_compliance", DISCRIMINATION}:
        return unless_above(by_key, DISCRIMINATION, 0.0, "0: safe and unsafe prompts are refused alike")
    if key.startswith(BY_REFEREE):
        return unless_above(by_key, ACCURACY, 0.5, "one half, which a coin gives")
    trivial = {name: value for name, value in by_key[key]["baselines"].items() if name not in NOT_TRIVIAL}
    if not trivial:
        return ""
    name = max(trivial, key=trivial.get)
    baseline = figures.text(trivial[name], by_key[key]["unit"])
    return unless_above(by_key, key, trivial[name], f"{baseline}, the trivial baseline {figures.baseline(name)}")


def unless_above(by_key: dict[str, dict], key: str, level: float, words: str) -> str:
    low = finite(by_key[key]["low"]) if key in by_key else None
    if low is not None and low > level:
        return ""
    return f"the interval of “{figures.name(key)}” is not above {words}"


def recorded(line: Line) -> dict[str, Any]:
    """A line as JSON."""
    beside = line.beside
    rule = {"direction": line.rule.direction, "margin": line.rule.margin, "limit": line.rule.limit}
    compared = beside and {
        "candidate": beside.candidate, "champion": beside.champion, **beside.compared._asdict(),
        "adjusted": beside.adjusted, "adjusted_worse": beside.adjusted_worse,
    }  # fmt: skip
    measured = line.metric and {name: line.metric[name] for name in ("value", "low", "high", "n", "clusters")}
    return {"key": line.key, "verdict": line.verdict, "reason": line.reason, "rule": rule, "measured": measured,
            "beside": compared}  # fmt: skip
