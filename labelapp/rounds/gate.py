"""The gate: what the measurements of a version say about putting it in the promoted one's place.

The limits are data, and judging is a pure function of them and the metrics. A figure without enough behind it is
"no-evidence", which is not a pass. Why the limits are what they are: docs/decisions/0004.
"""

import math
import operator
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

from django.db import transaction

from alignment.manifest import file_sha256
from labelapp.models import Audit, AuditMetric, Stage, Version
from labelapp.rounds import figures

# By stage. Of the evaluation, 2: answers must go on ending by themselves.
SUITES = {"evaluate": "reward-dpo/2", "audit": "audit/1"}
PASS, WARN, BLOCK, NO_EVIDENCE = (
    Audit.Verdict.PASS.value,
    Audit.Verdict.WARN.value,
    Audit.Verdict.BLOCK.value,
    Audit.Verdict.NO_EVIDENCE.value,
)
WORST_FIRST = [BLOCK, NO_EVIDENCE, WARN, PASS]

MINIMUM_ROWS = 50
MINIMUM_GROUPS = 5  # with fewer, a bootstrap of groups has too few distinct draws for a 95 % interval
BASELINE_SLACK = 0.02  # below the best trivial baseline by more than this blocks
LENGTH_GAP = 0.25  # accuracy on longer chosen answers minus accuracy on shorter ones
SKEWED_LABELS = 0.6  # share of longer chosen answers from which the labels themselves explain the gap
LENGTH_EXCESS = 0.15  # correlation with length beyond that of the labels
LENGTH_RATIO_WARN, LENGTH_RATIO_BLOCK = 1.3, 2.0  # mean length over the parent's
ENDING_WARN, ENDING_BLOCK = 0.9, 0.5  # share of answers that end by themselves, over the parent's

POLICY_ONLY = {
    "win_rate", "win_rate_length_controlled", "kl_to_parent", "mean_length_tokens", "repetition", "end_of_text_rate",
    "reward_gain", "distinct_1", "distinct_2", "answer_overlap",
}  # fmt: skip
REFEREE = ["reward_accuracy", "counterfactual_flip_rate"]
REQUIRED = {
    Version.Kind.REWARD: REFEREE,
    Version.Kind.POLICY: [*REFEREE, "win_rate", "mean_length_tokens", "repetition"],
}


class Limit(NamedTuple):
    """A side of the figure (value, low or high of its interval) beyond `limit` gives `verdict`."""

    key: str
    verdict: str
    side: str
    beyond: Callable[[float, float], bool]
    limit: float
    meaning: str


LIMITS = [
    Limit("reward_accuracy", BLOCK, "low", operator.le, 0.50, "not told apart from chance"),
    Limit("calibration_error", BLOCK, "value", operator.gt, 0.15, "above the limit of 15 %"),
    Limit("calibration_error", WARN, "value", operator.gt, 0.05, "above 5 %"),
    Limit("counterfactual_flip_rate", BLOCK, "low", operator.gt, 0.10, "the whole interval lies above 10 %"),
    Limit("counterfactual_flip_rate", WARN, "value", operator.gt, 0.05, "above 5 %"),
    Limit("counterfactual_flip_rate_templates", BLOCK, "low", operator.gt, 0.10, "the whole interval lies above 10 %"),
    Limit("counterfactual_flip_rate_templates", WARN, "value", operator.gt, 0.05, "above 5 %"),
    Limit("counterfactual_direction_templates", BLOCK, "low", operator.gt, 0.10, "the interval lies above 0.10 sd"),
    Limit("counterfactual_direction_templates", BLOCK, "high", operator.lt, -0.10, "the interval lies below −0.10 sd"),
    Limit("counterfactual_direction_templates", WARN, "value", operator.gt, 0.05, "beyond 0.05 sd"),
    Limit("counterfactual_direction_templates", WARN, "value", operator.lt, -0.05, "beyond 0.05 sd"),
    Limit("win_rate", BLOCK, "high", operator.lt, 0.45, "the whole interval lies below 45 %"),
    Limit("win_rate", WARN, "high", operator.lt, 0.50, "worse than the parent"),
    Limit("win_rate", NO_EVIDENCE, "low", operator.le, 0.50, "not told apart from the parent"),
    Limit("repetition", BLOCK, "value", operator.gt, 0.10, "above the limit of 10 %"),
]  # fmt: skip


class Finding(NamedTuple):
    """What one rule says of one figure."""

    key: str
    verdict: str
    reason: str = ""


class Ruling(NamedTuple):
    """The whole gate: the worst verdict, the verdict of each gated key, and one sentence for each that is no pass."""

    verdict: str
    verdicts: dict[str, str]
    reasons: list[str]


def judge_metrics(metrics: Iterable[dict[str, Any]], *, kind: str = Version.Kind.POLICY) -> Ruling:
    """Judge the metrics of a result.json. Keys without a limit are reported, not judged, and absent from `verdicts`."""
    by_key = {metric["key"]: normalized(metric) for metric in metrics}
    findings = [finding for metric in by_key.values() if (finding := judge_metric(metric, by_key))]
    findings += [
        Finding(key, NO_EVIDENCE, f"{figures.name(key)} was not measured.")
        for key in REQUIRED.get(kind, [])
        if key not in by_key
    ]
    findings.sort(key=lambda finding: WORST_FIRST.index(finding.verdict))
    return Ruling(
        verdict=findings[0].verdict if findings else NO_EVIDENCE,
        verdicts={finding.key: finding.verdict for finding in findings},
        reasons=[finding.reason for finding in findings if finding.verdict != PASS],
    )


def judge_metric(metric: dict[str, Any], by_key: dict[str, dict]) -> Finding | None:
    """The worst finding about one figure; None for a figure without a limit."""
    key = metric["key"]
    if key not in GATED:
        return None
    if thin := thin_evidence(metric):
        return Finding(key, NO_EVIDENCE, thin)
    found = [f for f in [*_beyond_limits(metric), *_relative(metric, by_key)] if f]
    return min(found, key=lambda f: WORST_FIRST.index(f.verdict), default=Finding(key, PASS))


def thin_evidence(metric: dict[str, Any]) -> str:
    """Why a figure cannot be judged; empty when it can."""
    what = figures.name(metric["key"])
    if metric["value"] is None:
        return f"{what} could not be measured{_because(metric)}."
    if (metric["n"] or 0) < MINIMUM_ROWS:
        return f"{what} rests on {metric['n'] or 0} rows; at least {MINIMUM_ROWS} are needed."
    if (metric["clusters"] or 0) < MINIMUM_GROUPS:
        return f"{what} rests on {metric['clusters'] or 0} independent groups; at least {MINIMUM_GROUPS} are needed."
    if metric["low"] is None or metric["high"] is None:
        return f"{what} has no interval{_because(metric)}."
    return ""


def normalized(metric: dict[str, Any]) -> dict[str, Any]:
    """The metric with every field present; a number that is not finite becomes None."""
    numbers = {side: finite(metric.get(side)) for side in ("value", "low", "high")}
    baselines = metric.get("baselines") or {}
    return {
        "key": metric["key"], **numbers, "n": metric.get("n"), "clusters": metric.get("clusters"),
        "unit": metric.get("unit") or "", "note": metric.get("note") or "",
        "baselines": {name: found for name, found in baselines.items() if finite(found) is not None},
    }  # fmt: skip


def finite(value: float | None) -> float | None:
    return value if value is not None and math.isfinite(value) else None


def best_baseline(metric: dict[str, Any]) -> tuple[str, float] | None:
    """Name and accuracy of the strongest trivial baseline."""
    return max(metric["baselines"].items(), key=lambda item: item[1], default=None)


def _because(metric: dict[str, Any]) -> str:
    return f" ({metric['note']})" if metric["note"] else ""


def _beyond_limits(metric: dict[str, Any]) -> list[Finding]:
    """The first limit of its key that the figure breaks; LIMITS has the graver ones first."""
    broken = [it for it in LIMITS if it.key == metric["key"] and it.beyond(metric[it.side], it.limit)]
    return [_finding(metric, it.verdict, it.meaning) for it in broken[:1]]


def _finding(metric: dict[str, Any], verdict: str, meaning: str) -> Finding:
    return Finding(metric["key"], verdict, f"{figures.sentence(metric)}: {meaning}.")


def _relative(metric: dict[str, Any], by_key: dict[str, dict]) -> list[Finding | None]:
    """Rules that compare a figure with another one."""
    rule = RELATIVE.get(metric["key"])
    return [rule(metric, by_key)] if rule else []


def _against_baselines(metric: dict[str, Any], _: dict[str, dict]) -> Finding | None:
    if not (best := best_baseline(metric)):
        return _finding(metric, NO_EVIDENCE, "no trivial baseline stands beside it")
    name, accuracy = figures.baseline(best[0]), best[1]
    if metric["value"] < accuracy - BASELINE_SLACK:
        return _finding(metric, BLOCK, f"below the trivial baseline {name} at {figures.text(accuracy, 'share')}")
    if metric["low"] <= accuracy:
        meaning = f"not told apart from the trivial baseline {name} at {figures.text(accuracy, 'share')}"
        return _finding(metric, WARN, meaning)
    return None


def _hard_half(metric: dict[str, Any], by_key: dict[str, dict]) -> Finding | None:
    """Accuracy where the chosen answer is shorter, and the other half; skewed labels excuse a block, not a warning."""
    longer = by_key.get("accuracy_chosen_longer", {}).get("value")
    longer_wins = by_key.get("reward_accuracy", {}).get("baselines", {}).get("longer_wins", 0.5)
    skewed = max(longer_wins, 1 - longer_wins) >= SKEWED_LABELS
    if metric["high"] < 0.5 and not skewed:
        return _finding(metric, BLOCK, "worse than chance although the labels do not prefer long answers that much")
    if longer is not None and longer - metric["value"] > LENGTH_GAP:
        return _finding(metric, WARN, f"{figures.text(longer, 'share')} where it is longer: length stands for quality")
    return None


def _length_excess(metric: dict[str, Any], _: dict[str, dict]) -> Finding | None:
    labels = metric["baselines"].get("labels")
    if labels is None:
        return _finding(metric, NO_EVIDENCE, "the labels' own correlation is not known")
    if abs(metric["value"]) - abs(labels) > LENGTH_EXCESS:
        return _finding(metric, WARN, f"the labels' own is {figures.number(labels)}")
    return None


def _length_ratio(metric: dict[str, Any], _: dict[str, dict]) -> Finding | None:
    parent = metric["baselines"].get("parent")
    if not parent:
        return _finding(metric, NO_EVIDENCE, "the parent's mean length is not known")
    ratio = metric["value"] / parent
    verdict = BLOCK if ratio > LENGTH_RATIO_BLOCK else WARN if ratio > LENGTH_RATIO_WARN else None
    return _finding(metric, verdict, f"{ratio:.1f} times the parent's") if verdict else None


def _ending(metric: dict[str, Any], _: dict[str, dict]) -> Finding | None:
    """A policy that forgets to stop fills every answer to its limit: the usual price of a preference for length."""
    parent = metric["baselines"].get("parent")
    if parent is None:
        return _finding(metric, NO_EVIDENCE, "the parent's share is not known")
    high = metric["high"]
    verdict = BLOCK if high < ENDING_BLOCK * parent else WARN if high < ENDING_WARN * parent else None
    return _finding(metric, verdict, f"the parent's is {figures.text(parent, 'share')}") if verdict else None


RELATIVE = {
    "reward_accuracy": _against_baselines,
    "accuracy_chosen_shorter": _hard_half,
    "length_correlation": _length_excess,
    "mean_length_tokens": _length_ratio,
    "end_of_text_rate": _ending,
}
GATED = {limit.key for limit in LIMITS} | set(RELATIVE)


@transaction.atomic
def record_audit(*, version: Version, stage: Stage, result: dict[str, Any], result_path: str) -> Audit:
    """Judge and store the metrics of one result.json for one version. Recording the same again gives the same row.

    A reward model is judged without the policy's figures. Raises OSError if the result file cannot be read.
    """
    left_out = set() if version.kind == Version.Kind.POLICY else POLICY_ONLY
    kept = [metric for metric in result.get("metrics") or [] if metric["key"] not in left_out]
    ruling = judge_metrics(kept, kind=version.kind if stage.stage == "evaluate" else "")
    audit, created = Audit.objects.get_or_create(
        version=version,
        stage=stage,
        suite=SUITES[stage.stage],
        defaults={
            "verdict": ruling.verdict,
            "reasons": ruling.reasons,
            "result_path": str(result_path),
            "result_sha256": file_sha256(result_path),
        },
    )
    if created:
        rows = {metric["key"]: normalized(metric) for metric in kept}
        AuditMetric.objects.bulk_create(
            AuditMetric(audit=audit, verdict=ruling.verdicts.get(key, ""), **row) for key, row in rows.items()
        )
    return audit


def latest_audit(version: Version) -> Audit | None:
    """The audit that the gate goes by; None where nothing was measured."""
    return version.audits.order_by("-created_at", "-pk").first()
