"""The live plots as pure functions of metric rows: what the page draws at first and the event stream draws on.

A curve keeps at most KEPT points; when there are more, neighbours are merged into their mean. Drawing happens here
alone: the browser only puts paths and words where they belong.
"""

import math
from collections.abc import Iterable
from typing import Any, NamedTuple

from django.db.models import Count, F, Q

from labelapp.models import MetricRow, Stage
from labelapp.rounds import figures

KEPT = 120
READ = 1000  # rows a stage that a page reads; of longer stages every n-th
WIDTH, HEIGHT, AIR = 300.0, 110.0, 6.0
SMOOTHING = 0.3  # weight of the newest point
MEASURED = ["validation_nats", "validation_loss", "held_out_reward"]  # figures that few rows have


class Plot(NamedTuple):
    """What is drawn of one metric. `reference` is the value that nothing learned gives."""

    key: str
    title: str
    about: str
    unit: str = ""
    reference: float | None = None
    smoothing: float = SMOOTHING  # weight of the newest point in the strong line


ASIDE = "on groups set aside, which choose the weights; dashed: chance"
LOSS = Plot("loss_nats", "Loss", "nats a pair; dashed: chance", "nats", math.log(2))
ACCURACY = Plot("accuracy", "Accuracy, training pairs", "dashed: chance", "share", 0.5)
PLOTS = {
    "reward": [
        LOSS,
        ACCURACY,
        Plot("margin", "Reward margin", "score of chosen minus rejected", "", 0.0),
        Plot("validation_nats", "Loss, validation", f"nats a pair, {ASIDE}", "nats", math.log(2), 1.0),
        Plot("counterfactual_penalty", "Counterfactual penalty", "in variances of the score", "", 0.0),
    ],
    "preference": [
        LOSS,
        ACCURACY,
        Plot("margin", "Reward margin", "implicit reward of chosen minus rejected", "", 0.0),
        Plot("validation_loss", "Loss, validation", f"a pair, {ASIDE}", "", math.log(2), 1.0),
        Plot("log_ratio_nats", "Log-ratio to the parent", "nats, on the pairs; not a KL", "nats", 0.0),
    ],
    "pretrain": [Plot("loss_nats", "Loss", "nats a token", "nats")],
    "sft": [Plot("loss_nats", "Loss", "nats a token", "nats")],
    "best_of_n": [
        Plot("reward", "Reward", "mean of all answers"),
        Plot("best_reward", "Reward of the best", "mean over prompts"),
        Plot("completion_tokens", "Length", "tokens an answer", "tokens"),
    ],
}
REWARD = Plot("reward", "Reward", "mean of a rollout's answers")
HELD_OUT = Plot("held_out_reward", "Reward, prompts set aside", "chooses the weights", "", None, 1.0)
GRADIENT = Plot("gradient_norm", "Gradient norm", "before it is clipped")
RESOURCES = [
    Plot("tokens_per_second", "Speed", "tokens a second", "tokens"),
    Plot("memory_mib", "Memory", "the most that the trainer held so far", "MiB", None, 1.0),
]
SAMPLED = [
    Plot("kl_nats", "KL to the parent", "nats an answer", "nats", 0.0),
    Plot("entropy_nats", "Entropy", "nats a token", "nats"),
    Plot("completion_tokens", "Length", "tokens an answer", "tokens"),
    Plot("finished_share", "Answers that end by themselves", "", "share"),
]
COST = [
    Plot("cost", "Cost", "mean of a rollout's answers"),
    Plot("cost_multiplier", "Price of the cost", "its multiplier"),
]
SAMPLED_PAIRS = Plot("accuracy", "Accuracy, sampled pairs", "dashed: chance", "share", 0.5)
VALUE = Plot("explained_variance", "Explained variance", "of the returns, by the value model", "share", 0.0)
PLOTS |= {
    "online_dpo": [REWARD, HELD_OUT, SAMPLED_PAIRS, *SAMPLED],
    "grpo": [REWARD, HELD_OUT, *SAMPLED],
    "ppo": [REWARD, HELD_OUT, VALUE, *SAMPLED],
    "safe": [REWARD, HELD_OUT, *COST, *SAMPLED],
    "safe_ppo": [REWARD, HELD_OUT, *COST, VALUE, *SAMPLED],
}
for stage in PLOTS.keys() - {"best_of_n"}:  # which takes no steps
    PLOTS[stage] += [GRADIENT, *RESOURCES]


class Drawing(NamedTuple):
    """One curve, ready for the page: SVG paths in a box of 300 by 110, and the words around it."""

    key: str
    title: str
    about: str
    text: str
    raw: str
    smooth: str
    reference: str
    top: str
    bottom: str
    summary: str


class Curve:
    """The points (step, value) of one metric of one stage."""

    def __init__(self, plot: Plot):
        self.plot = plot
        self.points: list[tuple[float, float]] = []

    def add(self, step: int, value: Any) -> None:
        """Take the next value; a step that comes again (a resumed attempt) replaces what was behind it."""
        while self.points and self.points[-1][0] >= step:
            self.points.pop()
        if isinstance(value, int | float) and math.isfinite(value):
            self.points.append((step, float(value)))
            if len(self.points) > 2 * KEPT:
                self.points = halved(self.points)

    def draw(self, steps: int) -> Drawing:
        plot, points = self.plot, self.points
        smooth = smoothed(points, plot.smoothing)
        shown = [value for _, value in points] + ([plot.reference] if plot.reference is not None else [])
        low, high = bounds(shown)
        right = max([steps, *(step for step, _ in points[-1:])]) or 1
        level = [] if plot.reference is None else [(0, plot.reference), (right, plot.reference)]
        last = points[-1][1] if points else None  # as measured: a smoothed value stands in no row
        return Drawing(
            key=plot.key,
            title=plot.title,
            about=plot.about,
            text=figures.text(last, plot.unit),
            raw=path(points, right, low, high),
            smooth=path(smooth, right, low, high),
            reference=path(level, right, low, high),
            top=figures.number(high, plot.unit),
            bottom=figures.number(low, plot.unit),
            summary=summary(plot, points),
        )


class StageCurves:
    """All curves of one stage."""

    def __init__(self, stage: Stage):
        self.stage = stage
        self.curves = [Curve(plot) for plot in PLOTS.get(stage.stage, [])]

    def add(self, row: MetricRow) -> None:
        for curve in self.curves:
            if curve.plot.key in row.values:
                curve.add(row.step, row.values[curve.plot.key])

    def draw(self) -> list[Drawing]:
        """The curves that have something to show. The penalty is drawn only where it was switched on."""
        drawn = [curve for curve in self.curves if any(value for _, value in curve.points)]
        return [curve.draw(self.stage.steps) for curve in drawn]


def curves_of(stage: Stage, *, upto: int | None = None) -> StageCurves:
    """The stage's curves from its rows, those with an id up to `upto` where it is given."""
    made = StageCurves(stage)
    for row in thinned(stage, upto) if made.curves else []:
        made.add(row)
    return made


def thinned(stage: Stage, upto: int | None = None) -> Iterable[MetricRow]:
    """About READ rows at most, evenly spread; rows with a validation figure are rare and all kept."""
    rows = stage.metric_rows.all() if upto is None else stage.metric_rows.filter(pk__lte=upto)
    every = math.ceil(rows.aggregate(count=Count("pk"))["count"] / READ) or 1
    if every > 1:
        rows = rows.annotate(rest=F("step") % every).filter(Q(rest=0) | Q(values__has_any_keys=MEASURED))
    return rows.order_by("step")


def halved(points: list[tuple[float, float]]) -> list[tuple[float, float]]:
    """Each two neighbours as one point at the later step, with their mean."""
    pairs = zip(points[::2], points[1::2], strict=False)
    merged = [(second[0], (first[1] + second[1]) / 2) for first, second in pairs]
    return merged + points[len(merged) * 2 :]


def smoothed(points: list[tuple[float, float]], weight: float = SMOOTHING) -> list[tuple[float, float]]:
    """The exponential moving average."""
    found, mean = [], None
    for step, value in points:
        mean = value if mean is None else mean + weight * (value - mean)
        found.append((step, mean))
    return found


def bounds(values: list[float]) -> tuple[float, float]:
    low, high = (min(values), max(values)) if values else (0.0, 1.0)
    return (low, high) if high > low else (low - 0.5, high + 0.5)


def path(points: list[tuple[float, float]], right: float, low: float, high: float) -> str:
    """The points as an SVG path: step 0 to `right` from left to right, low to high from bottom to top."""
    if not points:
        return ""
    scale = (HEIGHT - 2 * AIR) / (high - low)
    places = [f"{WIDTH * x / right:.1f} {HEIGHT - AIR - (y - low) * scale:.1f}" for x, y in points]
    return f"M{'L'.join(places)}" if len(places) > 1 else f"M{places[0]}h0.1"


def summary(plot: Plot, points: list[tuple[float, float]]) -> str:
    """What the curve says, for those who cannot see it."""
    if not points:
        return f"{plot.title}: nothing measured yet"
    (first, before), (last, after) = points[0], points[-1]
    before, after = figures.text(before, plot.unit), figures.text(after, plot.unit)
    return f"{plot.title}: {before} at step {first:.0f}, {after} at step {last:.0f}"
