"""What the judgments did to the reward model, round by round: a curve for admins, words for labelers."""

from typing import NamedTuple

from labelapp.models import AuditMetric, Project, Round, Version
from labelapp.rounds import figures
from labelapp.rounds.actions import reward_models

WIDTH, HEIGHT, LEFT, RIGHT, AIR = 640.0, 200.0, 44.0, 56.0, 14.0  # RIGHT: room for the last value
ONE_POINT = 0.01
ACCURACY, CHANGE = "reward_accuracy", "reward_accuracy_change"


class Point(NamedTuple):
    """Held-out accuracy after one round, and its paired change since the round before; shares."""

    round: Round
    judgments: int
    value: float
    low: float | None
    high: float | None
    change: AuditMetric | None

    @property
    def accuracy(self) -> str:
        return " ".join([self.percent, figures.interval(self.low, self.high, "share")])

    @property
    def percent(self) -> str:
        return figures.text(self.value, "share")

    @property
    def moved(self) -> str:
        """Such as "+0.8 [−0.5, 2.1]", in percentage points; empty without an earlier model."""
        if self.change is None or self.change.value is None:
            return ""
        sign = "+" if self.change.value > 0 else ""
        interval = figures.interval(self.change.low, self.change.high, "share")
        return f"{sign}{figures.number(self.change.value, 'share')} {interval}".strip()


class Mark(NamedTuple):
    """A point in the drawing: its place, and the ends of its interval."""

    point: Point
    x: float
    y: float
    top: float
    bottom: float


def points_of(project: Project) -> list[Point]:
    """One for each round that measured a reward model, oldest first."""
    measured = AuditMetric.objects.filter(
        audit__version__in=reward_models(project), audit__stage__stage="evaluate", key__in=[ACCURACY, CHANGE],
        audit__version__round__snapshot__isnull=False,
    )  # fmt: skip
    found: dict[Round, dict[str, AuditMetric]] = {}
    for metric in measured.select_related("audit__version__round__snapshot", "audit__stage").order_by("audit__pk"):
        found.setdefault(metric.audit.version.round, {})[metric.key] = metric
    points = [point_of(round, metrics) for round, metrics in found.items() if has_value(metrics)]
    return sorted(points, key=lambda point: point.round.number)


def has_value(metrics: dict[str, AuditMetric]) -> bool:
    return ACCURACY in metrics and metrics[ACCURACY].value is not None


def point_of(round: Round, metrics: dict[str, AuditMetric]) -> Point:
    accuracy = metrics[ACCURACY]
    # With the mitigation on, the change is that of the mitigation and not of the judgments.
    change = None if round.mitigation else metrics.get(CHANGE)
    return Point(round, round.snapshot.judgments, accuracy.value, accuracy.low, accuracy.high, change)


def marks(points: list[Point]) -> list[Mark]:
    """Judgments from left to right, accuracy from bottom to top."""
    if not points:
        return []
    known = [value for point in points for value in (point.value, point.low, point.high, 0.5) if value is not None]
    low, span = min(known), (max(known) - min(known)) or 1.0
    first, last = points[0].judgments, max(point.judgments for point in points)

    def x(point: Point) -> float:
        share = (point.judgments - first) / (last - first) if last > first else 0.5
        return round(LEFT + AIR + share * (WIDTH - LEFT - RIGHT - AIR), 1)

    def y(value: float | None, otherwise: float) -> float:
        share = ((otherwise if value is None else value) - low) / span
        return round(HEIGHT - AIR - share * (HEIGHT - 2 * AIR), 1)

    return [Mark(p, x(p), y(p.value, p.value), y(p.high, p.value), y(p.low, p.value)) for p in points]


def chance(points: list[Point]) -> float:
    """The height of one half in the drawing."""
    if not points:
        return HEIGHT
    level = points[0]._replace(value=0.5, low=None, high=None)
    return marks([*points, level])[-1].y


def next_point(points: list[Point]) -> str:
    """How many judgments it takes to see the accuracy move by one point; empty before two rounds can be compared.

    Half the width of an interval shrinks with the square root of what was held out, whose share of the judgments stays.
    """
    change = points[-1].change if points else None
    if change is None or change.low is None or change.high is None or change.high <= change.low:
        return ""
    half, judgments = (change.high - change.low) / 2, points[-1].judgments
    seen = f"The change of round {points[-1].round.number} is known to within {figures.number(half, 'share')} points"
    if half <= ONE_POINT:
        return f"{seen}: one point would be seen with the judgments there are."
    needed = judgments * (half / ONE_POINT) ** 2
    return f"{seen}: to see one point takes about {rounded(needed):,} judgments; there are {judgments:,}."


def rounded(count: float) -> int:
    """To two digits: the estimate is no better than that."""
    digits = max(0, len(str(int(count))) - 2)
    return int(round(count, -digits))


def in_words(points: list[Point]) -> str:
    """What the latest judgments moved, for those who made them; empty before two rounds can be compared."""
    now = points[-1] if points else None
    before = now and next((point for point in points if point.round.pk == earlier_round(now.round)), None)
    if before is None or (change := now.change) is None or change.value is None:
        return ""
    new = now.judgments - before.judgments
    since = f"{change.value:+.1%}".replace("%", "").replace("-", "−")
    sure = change.low is not None and (change.low > 0 or change.high < 0)
    doubt = "more than chance would do" if sure else "so little may be chance"
    return (
        f"Round {now.round.number} learnt from {new:,} more judgments than round {before.round.number}. On answers "
        f"that it never learnt from, the model now agrees with people in {figures.text(now.value, 'share')} of the "
        f"cases ({since} points{_range(change)}): {doubt}."
    )


def earlier_round(round: Round) -> int | None:
    """The round that made the reward model which this round's was measured beside."""
    specs = [spec for spec in round.recipe["stages"] if spec["stage"] == "evaluate"]
    named = [spec["inputs"].get("reward_champion", "") for spec in specs]
    keys = [name.removeprefix("version:") for name in named if name]
    return Version.objects.filter(pk__in=keys).values_list("round_id", flat=True).first()


def _range(change: AuditMetric) -> str:
    if change.low is None or change.high is None:
        return ""
    low, high = figures.number(change.low, "share"), figures.number(change.high, "share")
    return f"; with 95 % confidence between {low} and {high}"
