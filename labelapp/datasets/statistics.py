"""What the labels themselves look like, with intervals and the value that pure chance would give. Pure functions."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from math import sqrt

Metric = dict  # a row as in result.json: key, value, low, high, n, unit, baselines, note


def wilson(successes: int, n: int, *, z: float = 1.959964) -> tuple[float, float]:
    """Score interval of a share, 95 % by default. Source: Wilson 1927, eq. for the binomial score interval."""
    if n == 0:
        return 0.0, 1.0
    share, spread = successes / n, z * z / n
    centre = (share + spread / 2) / (1 + spread)
    half = z * sqrt(share * (1 - share) / n + spread / (4 * n)) / (1 + spread)
    return max(0.0, centre - half), min(1.0, centre + half)


def share_metric(key: str, successes: int, n: int, *, note: str, **baselines: float) -> Metric:
    """A share with its Wilson interval; without any case there is no value, and the note must not claim one."""
    low, high = wilson(successes, n) if n else (None, None)
    return {
        "key": key,
        "value": round(successes / n, 6) if n else None,
        "low": None if low is None else round(low, 6),
        "high": None if high is None else round(high, 6),
        "n": n,
        "unit": "share",
        "baselines": baselines,
        "note": note,
    }


@dataclass
class Agreement:
    """Coincidences of answers within comparisons, from which observed and chance agreement follow.

    Source: Krippendorff, Computing Krippendorff's Alpha-Reliability (2011), nominal data with missing values.
    """

    same: float = 0.0
    values: Counter = field(default_factory=Counter)

    def add(self, answers: Mapping[str, int]) -> None:
        """Count one comparison's answers by value; a lone answer agrees with nobody and is left out."""
        people = sum(answers.values())
        if people < 2:
            return
        self.values.update(answers)
        self.same += sum(count * (count - 1) for count in answers.values()) / (people - 1)

    def metric(self) -> Metric:
        n = self.values.total()
        observed = self.same / n if n else None
        chance = sum(count * (count - 1) for count in self.values.values()) / (n * (n - 1)) if n else None
        alpha = None if not n or chance == 1 else (observed - chance) / (1 - chance)
        return {
            "key": "agreement_alpha",
            "value": None if alpha is None else round(alpha, 6),
            "n": n,
            "unit": "alpha",
            "baselines": {"chance": 0.0},
            "note": "Krippendorff's alpha over first, second, tie and both bad: 0 is chance, 1 is perfect."
            + (f" Two people give the same answer {observed:.0%} of the time, by chance {chance:.0%}." if n else ""),
        }


@dataclass
class LabelStatistics:
    """Running counts over the pairs and judgments of a snapshot."""

    judgments: int = 0
    ties: int = 0
    shown: int = 0
    first_shown_won: int = 0
    unequal: int = 0
    longer_won: int = 0
    agreement: Agreement = field(default_factory=Agreement)

    def add_judgment(self, said: str, display_order: list[int]) -> None:
        """said: what the answer says of positions 0 and 1; display_order: positions as they were shown."""
        self.judgments += 1
        self.ties += said == "tie"
        if said in ("first", "second") and len(display_order) == 2:
            self.shown += 1
            self.first_shown_won += display_order[0] == (0 if said == "first" else 1)

    def add_pair(self, chosen: str, rejected: str) -> None:
        self.unequal += len(chosen) != len(rejected)
        self.longer_won += len(chosen) > len(rejected)

    def metrics(self) -> list[Metric]:
        return [
            share_metric("tie_rate", self.ties, self.judgments, note="Judgments of pairs that are a tie."),
            share_metric(
                "longer_wins",
                self.longer_won,
                self.unequal,
                note="Decided pairs of unequal length in which the longer completion won.",
                chance=0.5,
            ),
            share_metric(
                "first_shown_wins",
                self.first_shown_won,
                self.shown,
                note="Decisive judgments of pairs, shown here, in which the completion shown first won."
                " Imported judgments do not know what was shown first.",
                chance=0.5,
            ),
            self.agreement.metric(),
        ]
