"""Differences between two measurements: paired where both were made of the same items, else plainly unpaired."""

import json
import math
from collections import defaultdict
from pathlib import Path
from typing import NamedTuple

from alignment.manifest import file_sha256
from labelapp.models import AuditMetric, Stage
from labelapp.storage import file_if_at_hand

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


def gap_between(before: AuditMetric, after: AuditMetric, theirs: Items, ours: Items) -> Gap | None:
    """None where one of them has no value. theirs, ours: the items behind before and after, where they are known."""
    if before.value is None or after.value is None:
        return None
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


def items_of(stage: Stage) -> dict[str, Items]:
    """What each mean of the stage was computed from, by figure; empty where values.jsonl is gone or was changed."""
    path, cited = file_if_at_hand(Path(stage.output) / "values.jsonl"), (stage.result or {}).get("values") or {}
    found: dict[str, Items] = defaultdict(dict)
    if not stage.output or not path.is_file() or file_sha256(path) != cited.get("sha256"):
        return found
    with path.open() as lines:
        for row in map(json.loads, lines):
            items = found[row["metric"]]
            name = f"{row['item']} {len(items)}" if row["item"] in items else row["item"]  # twice counts twice
            items[name] = Item(row["group"], row["value"])
    return found
