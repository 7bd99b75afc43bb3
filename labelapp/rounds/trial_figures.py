"""A blind comparison as a drawing: the win rate with its confidence sequence over the judgments."""

from typing import NamedTuple

from labelapp.models import Trial
from labelapp.rounds import figures
from labelapp.rounds.trials import Step

WIDTH, HEIGHT, LEFT, RIGHT, AIR = 640.0, 220.0, 44.0, 626.0, 12.0


class Drawing(NamedTuple):
    """Places in a box of 640 by 220, and the rows behind them."""

    band: str
    line: str
    even: float
    better: float
    worse: float
    rows: list[tuple[int, str, str]]
    caption: str


def drawing_of(trial: Trial, steps: list[Step]) -> Drawing | None:
    """None before the first judgment."""
    if not steps:
        return None
    most = steps[-1].judged

    def at(judged: int, rate: float) -> str:
        return f"{LEFT + (RIGHT - LEFT) * judged / most:.1f},{height(rate)}"

    upper, lower = [at(s.judged, s.high) for s in steps], [at(s.judged, s.low) for s in reversed(steps)]
    rows = [(s.judged, figures.text(s.rate, "share"), figures.interval(s.low, s.high, "share")) for s in steps]
    return Drawing(
        band=" ".join([*upper, *lower]),
        line=" ".join(at(s.judged, s.rate) for s in steps),
        even=height(0.5),
        better=height(0.5 + trial.difference),
        worse=height(0.5 - trial.difference),
        rows=rows,
        caption=f"After {most} judgments the candidate wins {rows[-1][1]} {rows[-1][2]}",
    )


def height(rate: float) -> float:
    return round(HEIGHT - AIR - rate * (HEIGHT - 2 * AIR), 1)
