"""Differences between two measurements: paired where both were made of the same items, else plainly unpaired."""

import math
from collections import defaultdict
from typing import NamedTuple

from labelapp.models import AuditMetric
from labelapp.rounds.values import Value

Items = dict[str, Value]  # what each held-out item gave


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
