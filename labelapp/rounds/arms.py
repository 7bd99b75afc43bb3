"""Whether picking taught more than chance: two reward models on as many labels of each arm, told apart honestly.

Held-out pairs were picked too, the hard ones more often. Each therefore counts by the inverse of its odds, so that the
figure is about the candidates and not about the picks (Hájek 1971).
"""

import json
import random
import secrets
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from django.conf import settings

from alignment.manifest import file_sha256
from labelapp.models import Comparison, Project, Round, Snapshot, Stage, User
from labelapp.rounds.actions import LaunchRefused, queue_round, usual_parent
from labelapp.rounds.clustered import expanded_tail

NAME = "arms"
FEWEST = 10  # labels of an arm; below that two models differ by chance alone
RANDOM, ACTIVE = "reward_baseline_random", "reward_baseline_active"  # named so that no round starts from them
ORIGINS = {RANDOM: Comparison.Origin.RANDOM, ACTIVE: Comparison.Origin.ACTIVE}
DRAWS = 2000


class ArmsRefused(LaunchRefused):
    """There is too little to compare. The message says what is missing."""


class Told(NamedTuple):
    """Held-out accuracy of both arms' models on the same pairs, in shares; low and high of the difference.

    effective: how many pairs of equal odds would say as much (Kish).
    """

    round: Round
    labels: int
    random: float
    active: float
    low: float | None
    high: float | None
    pairs: int
    groups: int
    effective: float

    @property
    def difference(self) -> float:
        return self.active - self.random

    @property
    def verdict(self) -> str:
        if self.low is None or self.high is None:
            return "unknown"
        return "better" if self.low > 0 else "worse" if self.high < 0 else "unclear"


def picked(project: Project):
    """Comparisons that came of plans which pick, of either arm."""
    return Comparison.objects.filter(
        project=project, round__recipe__name="plan", round__recipe__select__signal__gt="", propensity__gt=0
    )


def pairs_in(snapshot: Snapshot, split: str) -> set[int]:
    """The comparisons whose decided pairs the snapshot has in a split. Raises ArmsRefused without its file."""
    try:
        with (Path(snapshot.path) / f"pairs-{split}.jsonl").open() as lines:
            return {json.loads(line)["comparison"] for line in lines}
    except OSError as error:
        raise ArmsRefused(f"The files of snapshot {snapshot} are gone: {error}.") from error


def compare_arms(*, project: Project, by: User | None = None, seed: int | None = None) -> Round:
    """Queue a round that trains a reward model on each arm of the newest snapshot, with as many labels of each.

    Refuses with ArmsRefused, actions.RoundAlreadyActive or actions.BudgetRefused.
    """
    snapshot, parent = project.snapshots.first(), usual_parent(project)
    if snapshot is None or parent is None:
        raise ArmsRefused("Freeze a snapshot and bring in a policy first.")
    seed = secrets.randbelow(2**31) if seed is None else seed
    train = pairs_in(snapshot, "train")
    chosen = draw_arms(project, train, seed)
    if not picked(project).filter(pk__in=pairs_in(snapshot, "test")).exists():
        raise ArmsRefused(f"Snapshot {snapshot} holds out no picked pair to measure on: label more, then freeze again.")
    inputs = {"snapshot": "snapshot", "parent": "parent"}
    plan = {"learning_rate": 3e-4, "epochs": 1}
    stages = [
        {"name": name, "stage": "reward", "inputs": inputs,
         "config": {"labels": {"weights_file": write_weights(train, keys)}, "optimization": plan}}
        for name, keys in chosen.items()
    ]  # fmt: skip
    compared = {"snapshot": "snapshot", "reward": f"stage:{ACTIVE}", "reward_baseline": f"stage:{RANDOM}"}
    stages.append({"name": "evaluate", "stage": "evaluate", "config": {}, "inputs": compared})
    recipe = {"name": NAME, "title": "Active against random", "stages": stages, "labels": len(chosen[RANDOM])}
    return queue_round(
        project=project, kind=Round.Kind.TRAINING, recipe=recipe, snapshot=snapshot, parent=parent, seed=seed, by=by
    )


def draw_arms(project: Project, train: set[int], seed: int) -> dict[str, list[int]]:
    """As many comparisons of each arm, drawn from those that are decided. Raises ArmsRefused for too few."""
    rng, found = random.Random(f"arms {seed}"), {}
    for name, origin in ORIGINS.items():
        rows = picked(project).filter(origin=origin, pk__in=train).order_by("pk")
        found[name] = list(rows.values_list("pk", flat=True))
    size = min(map(len, found.values()))
    if size < FEWEST:
        counts = f"{len(found[RANDOM])} of the random and {len(found[ACTIVE])} of the active arm"
        raise ArmsRefused(f"The newest snapshot has {counts} to train on; {FEWEST} of each are needed.")
    return {name: sorted(rng.sample(keys, size)) for name, keys in found.items()}


def write_weights(train: set[int], kept: Sequence[int]) -> str:
    """A weights file that leaves out every training comparison but these, named by its content."""
    left_out = {str(pk): 0.0 for pk in sorted(train - set(kept))}
    folder = settings.ARTIFACT_DIR / "prompts"
    folder.mkdir(parents=True, exist_ok=True)
    draft = folder / f"{secrets.token_hex(8)}.partial"
    draft.write_text(json.dumps({"comparisons": left_out}))
    return str(draft.rename(folder / f"{file_sha256(draft)}.json"))


def told_by(project: Project) -> list[Told]:
    """What every finished comparison of the arms found, newest first; those whose files are gone are left out."""
    stages = Stage.objects.filter(round__project=project, round__recipe__name=NAME, round__state=Round.State.DONE)
    done = stages.filter(stage="evaluate", state=Stage.State.DONE).select_related("round").order_by("-round__number")
    return [found for stage in done if (found := told(stage))]


def told(stage: Stage) -> Told | None:
    """From the scores in the stage's items.jsonl and the odds in the database; None where there is nothing to tell."""
    try:
        with (Path(stage.output) / "items.jsonl").open() as lines:
            rows = [row for row in map(json.loads, lines) if row["kind"] == "pair"]
    except (OSError, ValueError, KeyError):
        return None
    keys = {row["comparison"] for row in rows}
    odds = dict(picked(stage.round.project).filter(pk__in=keys).values_list("pk", "propensity"))
    rows = [row for row in rows if row["comparison"] in odds]
    if not rows:
        return None
    weights = np.array([1 / odds[row["comparison"]] for row in rows])
    active, chance = (np.array([right(row, arm) for row in rows]) for arm in ("score", "baseline_score"))
    groups = [row["group"] for row in rows]
    low, high = weighted_interval(active - chance, weights, groups, seed=stage.round.seed)
    return Told(
        round=stage.round,
        labels=stage.round.recipe["labels"],
        random=float(weights @ chance / weights.sum()),
        active=float(weights @ active / weights.sum()),
        low=low,
        high=high,
        pairs=len(rows),
        groups=len(set(groups)),
        effective=float(weights.sum() ** 2 / (weights**2).sum()),
    )


def right(row: dict, arm: str) -> float:
    """1 where the arm's model prefers the chosen answer, half for a tie."""
    gap = row[f"chosen_{arm}"] - row[f"rejected_{arm}"]
    return 0.5 + 0.5 * float(np.sign(gap))


def weighted_interval(
    gains: np.ndarray, weights: np.ndarray, groups: Sequence[str], *, seed: int
) -> tuple[float | None, float | None]:
    """95 % of a weighted mean by drawing whole groups; (None, None) for fewer than two.

    The percentiles are widened as for Student's t (Hesterberg 2015), for groups are few.
    """
    names, member = np.unique(np.asarray(groups), return_inverse=True)
    if len(names) < 2:
        return None, None
    sums = np.bincount(member, weights * gains, len(names))
    totals = np.bincount(member, weights, len(names))
    drawn = np.random.default_rng(seed).integers(len(names), size=(DRAWS, len(names)))
    means = sums[drawn].sum(axis=1) / totals[drawn].sum(axis=1)
    tail = expanded_tail(len(names), 0.95)
    low, high = np.quantile(means, [tail, 1 - tail])
    return float(low), float(high)
