"""Differences between two measurements: paired where both were made of the same items, else plainly unpaired."""

import json
import math
from collections import defaultdict
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from labelapp.models import AuditMetric

Z = 1.959964  # 95 % of a normal distribution lie within


class Item(NamedTuple):
    """What one held-out item gave: the group that resembles it, and its value."""

    group: str
    value: float


Items = dict[str, Item]


class Gap(NamedTuple):
    """The later figure minus the earlier one, with a 95 % interval where one can be given."""

    value: float
    low: float | None
    high: float | None
    paired: bool
    items: int = 0

    @property
    def is_clear(self) -> bool:
        """Whether the interval leaves out zero."""
        return self.low is not None and self.high is not None and (self.low > 0 or self.high < 0)


def gap_between(before: AuditMetric, after: AuditMetric) -> Gap | None:
    """None where one of them has no value."""
    if before.value is None or after.value is None:
        return None
    ours, theirs = items_behind(after), items_behind(before)
    if ours and ours.keys() == theirs.keys():
        return paired_gap(theirs, ours)
    return unpaired_gap(before, after)


def paired_gap(before: Items, after: Items) -> Gap:
    """Mean difference over the same items, with Student's t interval over their groups.

    The variance is that of the groups' summed residuals, G / (G - 1) sum_g (sum_i in g (d_i - mean))^2 / n^2; where
    every group has one item this is the paired t test. Source: Liang & Zeger 1986, Biometrika 73.
    """
    differences = {key: item.value - before[key].value for key, item in after.items()}
    n, mean = len(differences), sum(differences.values()) / len(differences)
    residuals: dict[str, float] = defaultdict(float)
    for key, difference in differences.items():
        residuals[after[key].group] += difference - mean
    groups = len(residuals)
    if groups < 2:
        return Gap(mean, None, None, True, n)
    error = math.sqrt(groups / (groups - 1) * sum(each**2 for each in residuals.values())) / n
    half = student(groups - 1) * error
    return Gap(mean, mean - half, mean + half, True, n)


def student(freedom: int) -> float:
    """What 95 % of Student's t lie within."""
    from scipy.special import stdtrit  # slow to import, and only this page asks for it

    return float(stdtrit(freedom, 0.975))


def unpaired_gap(before: AuditMetric, after: AuditMetric) -> Gap:
    """The difference as if both were independent: half widths add by their squares (Newcombe 1998, method 10)."""
    value = after.value - before.value
    if None in (before.low, before.high, after.low, after.high):
        return Gap(value, None, None, False)
    below = math.hypot(after.value - after.low, before.high - before.value)
    above = math.hypot(after.high - after.value, before.value - before.low)
    return Gap(value, value - below, value + above, False)


def items_behind(metric: AuditMetric) -> Items:
    """What the figure was computed from, by item; empty where it cannot be taken apart or its file is gone."""
    if metric.key not in READERS:
        return {}
    file, read = READERS[metric.key]
    found: Items = {}
    for key, item in filter(None, map(read, rows_of(Path(metric.audit.stage.output) / file))):
        found[f"{key} {len(found)}" if key in found else key] = item  # an item that comes twice counts twice
    return found


def rows_of(path: Path) -> Iterator[dict[str, Any]]:
    try:
        with path.open() as lines:
            yield from map(json.loads, lines)
    except (OSError, ValueError):
        return


Read = Callable[[dict[str, Any]], tuple[str, Item] | None]


def judged_pair(row: dict[str, Any]) -> tuple[str, Item] | None:
    """1 where the reward model agrees with the people, 0.5 where it scores both alike."""
    if row.get("kind") != "pair" or "chosen_score" not in row:
        return None
    margin = row["chosen_score"] - row["rejected_score"]
    item = json.dumps([row["comparison"], row["prompt"], row["chosen"], row["rejected"]])
    return item, Item(str(row["group"]), 1.0 if margin > 0 else 0.5 if margin == 0 else 0.0)


def said_no(row: dict[str, Any], *, safe: bool) -> tuple[str, Item] | None:
    """Of the prompts of one kind whether the policy refused; of the dangerous ones whether it did not."""
    if row.get("safe") is not safe or "policy" not in row:
        return None
    return str(row["id"]), Item(str(row["id"]), float(row["policy"]["refused"] is safe))


READERS: dict[str, tuple[str, Read]] = {  # the figures that can be taken apart into items
    "reward_accuracy": ("items.jsonl", judged_pair),
    "safe_refusal": ("refusals.jsonl", partial(said_no, safe=True)),
    "unsafe_compliance": ("refusals.jsonl", partial(said_no, safe=False)),
}
