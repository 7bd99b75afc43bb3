"""Figures of a project's data, ready to be shown: value, interval, and what they mean beside chance."""

from typing import Any, NamedTuple

TITLES = {
    "tie_rate": "Ties",
    "longer_wins": "The longer one wins",
    "first_shown_wins": "The one shown first wins",
    "agreement_alpha": "Agreement",
}


class Figure(NamedTuple):
    """A metric in words. `verdict` says what it shows beside chance; `tone` is the class of its tag."""

    title: str
    value: str
    interval: str
    n: int
    note: str
    verdict: str
    tone: str


def figures_of(metrics: list[dict[str, Any]]) -> list[Figure]:
    return [figure_of(metric) for metric in metrics]


def figure_of(metric: dict[str, Any]) -> Figure:
    value, low, high = metric["value"], metric.get("low"), metric.get("high")
    verdict, tone = _beside_chance(metric)
    is_share = metric["unit"] == "share"
    return Figure(
        title=TITLES.get(metric["key"], metric["key"]),
        value="–" if value is None else f"{value:.1%}" if is_share else f"{value:.2f}",
        interval=f"{low:.1%} to {high:.1%}" if low is not None else "",
        n=metric["n"],
        note=metric["note"],
        verdict=verdict,
        tone=tone,
    )


def _beside_chance(metric: dict[str, Any]) -> tuple[str, str]:
    """What the figure shows, as far as its interval allows a claim."""
    if metric["value"] is None:
        return "no evidence", "no-evidence"
    if metric["key"] == "agreement_alpha":
        return ("above chance", "pass") if metric["value"] > 0 else ("not above chance", "warn")
    if (chance := metric["baselines"].get("chance")) is None:
        return "", ""
    if metric["low"] <= chance <= metric["high"]:
        return f"as chance, {chance:.0%}", "no-evidence"
    return f"{'above' if metric['low'] > chance else 'below'} chance, {chance:.0%}", "warn"
