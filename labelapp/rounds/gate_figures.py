"""A gate's decision as its pages show it: one row a figure, and the differences drawn against what is allowed."""

from typing import NamedTuple

from labelapp.rounds import figures
from labelapp.rounds.decision import Decision, Line

WIDTH, ROW, TOP, LEFT, RIGHT = 640, 34, 26, 250, 620
FURTHEST = 4.0  # allowed losses that the drawing has room for, on each side of 0


class Row(NamedTuple):
    """One gating figure in words, and its place in the drawing where it was paired (pixels; else None)."""

    key: str
    name: str
    verdict: str
    reason: str
    candidate: str
    interval: str
    limit: str
    rows: str
    champion: str
    difference: str
    allowed: str
    p: str
    adjusted: str
    y: float | None = None
    x: float = 0
    low: float = 0
    high: float = 0
    caption: str = ""


class Drawing(NamedTuple):
    """The plot's size, and where "as good as the champion" and "the allowed loss" stand."""

    rows: list[Row]
    height: int
    even: float
    allowed: float


def rows_of(decision: Decision) -> Drawing:
    rows, place = [], 0
    for line in decision.lines:
        row = row_of(line)
        if line.beside:
            row = drawn(row, line, TOP + place * ROW)
            place += 1
        rows.append(row)
    return Drawing(rows, TOP + place * ROW, across(0), across(-1))


def row_of(line: Line) -> Row:
    unit = line.metric["unit"] if line.metric else ""
    rule, compared = line.rule, line.beside and line.beside.compared
    words = {
        "champion": figures.text(line.beside.champion, unit),
        "difference": f"{signed(compared.difference, unit)} {figures.interval(compared.low, compared.high, unit)}",
        "p": p_text(compared.no_worse),
        "adjusted": p_text(line.beside.adjusted),
    } if compared else dict.fromkeys(("champion", "difference", "p", "adjusted"), "–")  # fmt: skip
    metric = line.metric or {"value": None, "low": None, "high": None, "n": None, "clusters": None}
    counted = f"{metric['n'] or 0}, in {metric['clusters'] or 0}"
    return Row(
        key=line.key,
        name=figures.name(line.key),
        verdict=line.verdict,
        reason=line.reason,
        candidate=figures.text(line.beside.candidate if compared else metric["value"], unit),
        interval=figures.interval(metric["low"], metric["high"], unit),
        limit="–" if rule.limit is None else f"{LIMITS[rule.direction]} {figures.text(rule.limit, unit)}",
        allowed="–" if rule.margin is None else figures.text(rule.margin, unit).replace(" %", " pp"),
        rows=f"{compared.n} paired, in {compared.clusters}" if compared else counted,
        **words,
    )


LIMITS = {"higher": "at least", "lower": "at most", "zero": "within ±"}


def drawn(row: Row, line: Line, y: float) -> Row:
    """The difference in units of the allowed loss: then every figure's limit stands on one line."""
    compared, scale = line.beside.compared, line.rule.margin
    scale = scale or (compared.high - compared.low) / 2 or 1.0
    points = [across(value / scale) for value in (compared.difference, compared.low, compared.high)]
    return row._replace(y=y, x=points[0], low=points[1], high=points[2], caption=f"{row.name}: {row.difference}")


def across(value: float) -> float:
    """Pixels from the left; what is further out than the drawing stands at its edge."""
    share = (max(-FURTHEST, min(FURTHEST, value)) + FURTHEST) / (2 * FURTHEST)
    return round(LEFT + share * (RIGHT - LEFT), 1)


def signed(value: float, unit: str) -> str:
    points = " pp" if unit in figures.SHARES else figures.sign(unit)
    return f"{'+' if value > 0 else '−' if value < 0 else '±'}{figures.number(abs(value), unit)}{points}"


def p_text(p: float) -> str:
    return "below 0.001" if p < 0.001 else f"{p:.3f}"
