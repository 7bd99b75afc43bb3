"""A round as its pages show it: its stages in order, how far it is, how long it took, and what came out."""

from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, NamedTuple

from django.utils import timezone

from labelapp.models import Audit, Round, Stage, Version
from labelapp.rounds.artifacts import PUBLISHED
from labelapp.rounds.curves import PLOTS, Drawing, curves_of
from labelapp.rounds.presets import LABELS
from labelapp.rounds.shown import Shown, shown_samples
from labelapp.rounds.version_figures import Figure, Pair, Sides, headlines, sides_of, split_figures

ENDED = {Round.State.DONE, Round.State.FAILED, Round.State.CANCELLED}
LEAD = ["reward_accuracy", "win_rate", "kl_to_parent", "mean_length_tokens"]
LEAD += ["safe_refusal", "unsafe_compliance", "bbq_bias_ambiguous", "bbq_accuracy_ambiguous"]
PRICE = "accuracy_price"
TABLE_ROWS = 40


class StageView(NamedTuple):
    """One step of the pipeline."""

    stage: Stage
    label: str
    percent: int | None
    seconds_left: float | None
    files: list[str]

    @property
    def position(self) -> str:
        """Such as "step 12 of 60, about 6 min left in this stage"."""
        if not self.stage.steps:
            return "reading its inputs"
        if self.stage.step >= self.stage.steps:
            return f"all {self.stage.steps} steps taken, writing its results"
        left = f", about {duration(self.seconds_left)} left in this stage" if self.seconds_left is not None else ""
        return f"step {self.stage.step} of {self.stage.steps}{left}"


class Table(NamedTuple):
    """The numbers behind a stage's plots."""

    columns: list[str]
    rows: list[tuple[int, list[Any]]]


class Plotted(NamedTuple):
    """The plots of one stage and the table behind them."""

    view: StageView
    drawings: list[Drawing]
    table: Table


class Outcome(NamedTuple):
    """What a finished round found about the version that it made."""

    version: Version
    audit: Audit
    figures: list[Figure]
    pairs: list[Pair]
    sides: Sides

    @property
    def lead(self) -> list[Figure]:
        """The figures to read first."""
        by_key = {figure.key: figure for figure in self.figures}
        return [by_key[key] for key in LEAD if key in by_key]

    @property
    def gated(self) -> bool:
        """Whether the gate goes by it; the audit of bias and safety is there to be read."""
        return self.audit.stage.stage == "evaluate"

    @property
    def price(self) -> Figure | None:
        return next((figure for figure in self.figures if figure.key == PRICE), None)

    @property
    def beaten(self) -> list[Figure]:
        """Figures that a trivial baseline reaches too: the first thing a reader must know."""
        return [figure for figure in self.figures if figure.below]


def is_over(round: Round) -> bool:
    return round.state in ENDED


def stage_views(round: Round) -> list[StageView]:
    return [stage_view(stage) for stage in round.stages.order_by("number")]


def stage_view(stage: Stage) -> StageView:
    running = stage.state == Stage.State.RUNNING
    return StageView(
        stage=stage,
        label=label_of(stage),
        percent=100 * stage.step // stage.steps if running and stage.steps else None,
        seconds_left=seconds_left(stage) if running else None,
        files=[name for name in sorted(PUBLISHED) if stage.output and (Path(stage.output) / name).is_file()],
    )


def label_of(stage: Stage) -> str:
    if stage.name == "reward" and "reward_baseline" in {spec["name"] for spec in stage.round.recipe["stages"]}:
        return "reward model, penalty on"
    return LABELS.get(stage.name, stage.name.replace("_", " "))


def seconds_left(stage: Stage) -> float | None:
    """The seconds a step so far times the steps to come; None before the first step."""
    last = stage.metric_rows.order_by("-step").first()
    spent = last and last.values.get("seconds")
    return spent / last.step * max(0, stage.steps - last.step) if spent and last.step and stage.steps else None


def shown_stages(views: list[StageView]) -> list[tuple[StageView, list[Shown]]]:
    """The stages whose policy was asked to answer as it changed."""
    found = [(view, shown_samples(view.stage)) for view in views]
    return [(view, prompts) for view, prompts in found if prompts]


def plotted_stages(views: list[StageView]) -> list[Plotted]:
    """The plots of the stages that have any; a stage without a metric has no section yet."""
    return [
        Plotted(view, curves_of(view.stage).draw(), table_of(view.stage))
        for view in views
        if view.stage.stage in PLOTS and view.stage.steps
    ]


def table_of(stage: Stage) -> Table:
    """About TABLE_ROWS steps, evenly spread, with the first and the last; metrics.jsonl has every one."""
    plots = PLOTS[stage.stage]
    steps = list(stage.metric_rows.order_by("step").values_list("step", flat=True))
    every = max(1, len(steps) // TABLE_ROWS)
    wanted = set(steps[::every]) | set(steps[-1:])
    rows = stage.metric_rows.filter(step__in=wanted).order_by("step")
    return Table(
        columns=[plot.title for plot in plots],
        rows=[(row.step, [row.values.get(plot.key) for plot in plots]) for row in rows],
    )


def outcomes(round: Round) -> list[Outcome]:
    """Those of the policy, the newest first; for a round without one, of its reward models."""
    versions = list(round.versions.order_by("pk"))
    made = [version for version in versions if version.kind == Version.Kind.POLICY] or versions
    found = Audit.objects.filter(version__in=made, stage__round=round).select_related("version", "stage__round")
    ordered = found.order_by("version", "-created_at", "-pk").prefetch_related("metrics")
    return [Outcome(audit.version, audit, *split_figures(audit), sides_of(audit)) for audit in ordered]


class Line(NamedTuple):
    """A line of the list of rounds."""

    round: Round
    versions: list[Version]
    headline: list[Figure]
    audit: Audit | None
    duration: str
    collected: dict | None


def line_of(round: Round) -> Line:
    made = [version for version in round.versions.all() if version.kind == Version.Kind.POLICY]
    made = made or list(round.versions.all())
    audit = next(iter(made[0].audits.all()), None) if made else None  # newest first, and prefetched
    event = next((event for event in round.events.all() if event.kind == "collected"), None)
    return Line(
        round=round,
        versions=made,
        headline=headlines(made[0], audit) if made else [],
        audit=audit,
        duration=duration_of(round),
        collected=event and event.detail,
    )


def duration_of(round: Round) -> str:
    if not round.started_at:
        return ""
    return duration((seen_end(round.finished_at) - round.started_at).total_seconds())


def seen_end(finished_at: datetime | None) -> datetime:
    return finished_at or timezone.now()


def duration(seconds: float) -> str:
    """Such as "45 s", "6 min" or "1 h 20 min"."""
    if seconds < 90:
        return f"{max(0, seconds):.0f} s"
    minutes = round(timedelta(seconds=seconds) / timedelta(minutes=1))
    return f"{minutes} min" if minutes < 90 else f"{minutes // 60} h {minutes % 60} min"
