"""Rounds side by side: their figures with the difference in words, and their curves in one plot."""

from typing import NamedTuple

from labelapp.models import Audit, AuditMetric, Round, Stage, Version
from labelapp.rounds import figures
from labelapp.rounds.curves import PLOTS, Curve, Plot, bounds, curves_of, path, smoothed
from labelapp.rounds.overview import TABLE_ROWS, label_of
from labelapp.rounds.paired import Gap, Items, gap_between
from labelapp.rounds.values import kept_values
from labelapp.rounds.version_figures import signed

HIGHER_IS_BETTER = {
    "reward_accuracy", "accuracy_chosen_shorter", "accuracy_chosen_longer", "auc_of_cost", "accuracy_of_cost",
    "win_rate", "win_rate_length_controlled", "reward_gain", "end_of_text_rate", "refusal_discrimination",
    "bbq_accuracy_ambiguous", "bbq_accuracy_disambiguated",
}  # fmt: skip
LOWER_IS_BETTER = {
    "calibration_error", "counterfactual_flip_rate", "counterfactual_flip_rate_templates", "counterfactual_gap",
    "counterfactual_gap_templates", "repetition", "safe_refusal", "unsafe_compliance",
}  # fmt: skip
AGAINST_PARENT = {"win_rate", "win_rate_length_controlled", "reward_gain", "kl_to_parent"}
UNKNOWN = "cannot tell"
OWN_JUDGE = {"win_rate", "win_rate_length_controlled", "reward_gain"}


class Cell(NamedTuple):
    """One round's figure; empty where it was not measured."""

    round: int
    text: str = ""
    interval: str = ""
    audit: int | None = None


class Against(NamedTuple):
    """A later round's figure against the first one's: the difference, how it was taken, and who is better in words."""

    round: int
    change: str = ""
    interval: str = ""
    how: str = ""
    verdict: str = ""


class FigureRow(NamedTuple):
    """One figure of every round, and each later round against the first."""

    name: str
    cells: list[Cell]
    against: list[Against]


def figure_rows(rounds: list[Round]) -> list[FigureRow]:
    """Every figure that some round measured of what it made, in the order of its own page."""
    measured = [figures_of(round) for round in rounds]
    keys = dict.fromkeys(key for each in measured for key in each if not key[1].endswith("_change"))
    return [figure_row(key[1], rounds, [each.get(key) for each in measured]) for key in keys]


class Measured(NamedTuple):
    """A figure and the items behind it."""

    metric: AuditMetric
    items: Items


def figures_of(round: Round) -> dict[tuple[str, str], Measured]:
    """By stage and key: those of the policy, of the reward model where the round made no policy."""
    versions = list(round.versions.exclude(name__startswith="reward-baseline"))
    made = [version for version in versions if version.kind == Version.Kind.POLICY] or versions
    audits = Audit.objects.filter(version__in=made, stage__round=round).select_related("stage")
    found = {}
    for audit in audits.order_by("-stage__stage", "pk").prefetch_related("metrics"):  # the evaluation first
        kept = kept_values(audit)
        found |= {(audit.stage.stage, each.key): Measured(each, kept.get(each.key, {})) for each in audit.metrics.all()}
    return found


def figure_row(key: str, rounds: list[Round], measured: list[Measured | None]) -> FigureRow:
    pairs = list(zip(rounds, measured, strict=True))
    against = [against_first(key, rounds[0], round, measured[0], each) for round, each in pairs[1:]]
    return FigureRow(figures.name(key), [cell_of(round, each and each.metric) for round, each in pairs], against)


def cell_of(round: Round, metric: AuditMetric | None) -> Cell:
    if metric is None:
        return Cell(round.number)
    interval = figures.interval(metric.low, metric.high, metric.unit)
    return Cell(round.number, figures.text(metric.value, metric.unit), interval, metric.audit_id)


def against_first(key: str, first: Round, round: Round, before: Measured | None, after: Measured | None) -> Against:
    if not before or not after:
        return Against(round.number)
    gap, unit = gap_between(before.metric, after.metric, before.items, after.items), after.metric.unit
    if gap is None:
        return Against(round.number)
    if key in AGAINST_PARENT and first.parent_id != round.parent_id:
        return Against(round.number, how="other parents", verdict=UNKNOWN)
    how = f"paired, {gap.items:,} items" if gap.paired else "unpaired"
    how += ", each by its own reward model" if key in OWN_JUDGE else ""
    interval = figures.interval(gap.low, gap.high, unit)
    return Against(round.number, signed(gap.value, unit), interval, how, verdict(key, gap, first, round))


def verdict(key: str, gap: Gap, first: Round, round: Round) -> str:
    """Which round is better in this figure; "cannot tell" where the interval holds zero or two judges decided."""
    if not gap.is_clear or key in OWN_JUDGE:
        return UNKNOWN
    if key not in HIGHER_IS_BETTER | LOWER_IS_BETTER:
        return "differs"
    better = round if (gap.value > 0) == (key in HIGHER_IS_BETTER) else first
    return f"round {better.number} is better"


class Line(NamedTuple):
    """One round's curve in a shared plot: its place in the legend, its path, and its words."""

    place: int
    round: Round
    path: str
    text: str


class Overlay(NamedTuple):
    """One metric of one stage, a line for each round; all on one scale."""

    plot: Plot
    lines: list[Line]
    reference: str
    top: str
    bottom: str
    summary: str


class OverlaidStage(NamedTuple):
    """The plots of one stage, and the values behind them: a row is (step, metric, value of each round)."""

    label: str
    overlays: list[Overlay]
    rows: list[tuple[int, str, list[float | None]]]


def overlaid_stages(rounds: list[Round]) -> list[OverlaidStage]:
    """A section for each stage name that at least two rounds have plots of."""
    stages: dict[str, list[tuple[int, Round, Stage]]] = {}
    for place, round in enumerate(rounds):
        for stage in round.stages.all():
            if stage.stage in PLOTS:
                stages.setdefault(stage.name, []).append((place, round, stage))
    made = [overlaid_stage(found, len(rounds)) for found in stages.values() if len(found) > 1]
    return [stage for stage in made if stage.overlays]


def overlaid_stage(found: list[tuple[int, Round, Stage]], count: int) -> OverlaidStage:
    read = [(place, round, curves_of(stage)) for place, round, stage in found]
    overlays, rows = [], []
    for number, plot in enumerate(PLOTS[found[0][2].stage]):
        curves = [(place, round, made.curves[number]) for place, round, made in read]
        if sum(any(value for _, value in curve.points) for _, _, curve in curves) > 1:
            overlays.append(overlay(plot, curves))
            rows += table_rows(plot, curves, count)
    return OverlaidStage(label_of(found[0][2]), overlays, rows)


def overlay(plot: Plot, curves: list[tuple[int, Round, Curve]]) -> Overlay:
    """Every line smoothed as on its round's own page, over the same steps and the same values."""
    smooth = [(place, round, smoothed(curve.points, plot.smoothing)) for place, round, curve in curves if curve.points]
    values = [value for _, _, points in smooth for _, value in points]
    low, high = bounds(values + ([] if plot.reference is None else [plot.reference]))
    right = max(points[-1][0] for _, _, points in smooth) or 1
    ends = {round.pk: curve.points[-1][1] for _, round, curve in curves if curve.points}
    lines = [
        Line(place, round, path(points, right, low, high), figures.text(ends[round.pk], plot.unit))
        for place, round, points in smooth
    ]
    level = [] if plot.reference is None else [(0, plot.reference), (right, plot.reference)]
    said = "; ".join(f"round {line.round.number} ends at {line.text}" for line in lines)
    return Overlay(
        plot, lines, path(level, right, low, high), figures.number(high, plot.unit), figures.number(low, plot.unit),
        f"{plot.title}: {said}",
    )  # fmt: skip


def table_rows(plot: Plot, curves: list[tuple[int, Round, Curve]], count: int) -> list[tuple[int, str, list]]:
    """About TABLE_ROWS steps of one metric as measured, with the first and the last."""
    values: dict[int, list[float | None]] = {}
    for place, _, curve in curves:
        for step, value in curve.points:
            values.setdefault(int(step), [None] * count)[place] = value
    steps = sorted(values)
    wanted = sorted(set(steps[:: max(1, len(steps) // TABLE_ROWS)]) | set(steps[-1:]))
    return [(step, plot.title, values[step]) for step in wanted]
