"""A reward model's other heads on what held-out votes say to them, and how far the members of an ensemble agree."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from scipy.stats import rankdata

from alignment.config import COST, REWARD, JobError, Labels
from alignment.data.judgments import EQUAL, read_votes
from alignment.data.labels import Said, said_by_votes, said_of_safety
from alignment.data.pairs import Pair
from alignment.data.text import Messages
from alignment.measures.baselines import correct, log_length_difference
from alignment.measures.figures import Measure, Statistic, mean_of
from alignment.measures.panel import (
    Panel,
    RewardScores,
    Scores,
    Text,
    arms_with,
    measures,
    pair_names,
    pair_scores,
    text_of,
    text_pair,
)
from alignment.measures.values import item_of
from alignment.models.heads import heads_at


class SafetyLabel(NamedTuple):
    """What the majority of those who were asked said of one completion."""

    prompt: Messages
    completion: str
    unsafe: bool
    group: str
    comparison: Any


class Asked(NamedTuple):
    """What held-out votes say to heads beside the overall preference."""

    criteria: dict[str, list[Pair]]  # pairs as the ratings of a criterion order them, without ties
    safety: list[SafetyLabel]  # without those that as many call safe as unsafe


def read_asked(snapshot: Path, checkpoints: Sequence[Path]) -> Asked:
    """What the test split says to the heads of these reward models. Raises JobError naming file and line."""
    heads = dict.fromkeys(head for path in checkpoints for head in heads_at(path) if head != REWARD)
    votes = read_votes(snapshot, "test") if heads else []
    criteria = {name: _ordered(votes, name) for name in heads if name != COST}
    safety = [_label(one) for one in said_of_safety(votes, EQUAL) if one.what.unsafe != 0.5] if COST in heads else []
    return Asked({name: pairs for name, pairs in criteria.items() if pairs}, safety)


def _ordered(votes: Sequence, criterion: str) -> list[Pair]:
    said = said_by_votes(votes, criterion, Labels(), 0.0, EQUAL)
    return [
        Pair(one.prompt, one.texts[one.what.first], one.texts[one.what.second], 0.0, one.group, one.comparison)
        for one in said
    ]


def _label(said: Said) -> SafetyLabel:
    completion = said.texts[0][-1]["content"]
    return SafetyLabel(said.prompt, completion, said.what.unsafe > 0.5, said.group, said.comparison)


def asked_texts(asked: Asked) -> list[Text]:
    """Every text that the heads are asked about, once."""
    pairs = [pair for ordered in asked.criteria.values() for pair in ordered]
    texts = [text_of(pair.prompt, side) for pair in pairs for side in text_pair(pair)]
    return list(dict.fromkeys([*texts, *(text_of(one.prompt, one.completion) for one in asked.safety)]))


def reward_measures(panel: Panel, asked: Asked, found: RewardScores) -> list[Measure]:
    """Every figure of one reward model, those of the overall reward first. Raises JobError where there is none."""
    overall = measures(panel, found.of(REWARD)) if found.has(REWARD) else []
    whole = [*overall, *head_measures(panel, asked, found)]
    if not whole:
        heads = ", ".join(found.names)
        raise JobError(f"no held-out judgment says anything to the heads of the reward model ({heads}); freeze a "
                       "snapshot whose test split has their ratings or safety labels")  # fmt: skip
    return whole


def head_measures(panel: Panel, asked: Asked, found: RewardScores) -> list[Measure]:
    """The figures of the heads that this model has and that something was said to."""
    heads = [criterion_measure(name, pairs, found) for name, pairs in asked.criteria.items() if found.has(name)]
    if asked.safety and found.has(COST):
        heads += cost_measures(asked.safety, found.of(COST))
    return heads + (ensemble_measures(panel, found) if len(found.members(REWARD)) > 1 else [])


def criterion_measure(name: str, pairs: Sequence[Pair], found: RewardScores) -> Measure:
    """Share of pairs that the head orders as the ratings do, beside the longer answer and the overall reward."""
    groups, lengths = [pair.group for pair in pairs], log_length_difference([text_pair(pair) for pair in pairs])
    baselines = {"longer_wins": float(correct(lengths).mean())}
    if found.has(REWARD):
        baselines[REWARD] = float(correct(pair_scores(pairs, found.of(REWARD)).margins).mean())
    right = correct(pair_scores(pairs, found.of(name)).margins)
    note = "pairs as its ratings order them"
    return Measure(
        f"accuracy_of_{name}", "share", mean_of(right), groups, note, baselines, items=pair_names(pairs)
    )


def cost_measures(labels: Sequence[SafetyLabel], scores: Scores) -> list[Measure]:
    """Accuracy at the boundary 0, beside always saying what is the more frequent; and the area under the ROC curve."""
    costs = np.asarray([scores[text_of(one.prompt, one.completion)] for one in labels])
    unsafe, groups = np.asarray([one.unsafe for one in labels]), [one.group for one in labels]
    right, share = correct(np.where(unsafe, costs, -costs)), float(unsafe.mean())
    return [
        Measure(f"accuracy_of_{COST}", "share", mean_of(right), groups, "unsafe is what costs more than 0",
                {"more_frequent": max(share, 1 - share)},
                items=[item_of(one.prompt, one.completion, one.unsafe) for one in labels]),
        Measure(f"auc_of_{COST}", "probability", auc_of(costs, unsafe), groups,
                "that an unsafe answer costs more than a safe one", {"chance": 0.5}),
    ]  # fmt: skip


def auc_of(scores: np.ndarray, positive: np.ndarray) -> Statistic:
    """Area under the ROC curve: the probability that a positive row scores above a negative one, ties as a half.

    Args:
        scores: shape (n,).
        positive: bool, shape (n,). NaN where the rows are all of one kind.

    Source: Hanley & McNeil 1982, Radiology 143(1): the area is the Mann-Whitney statistic over both counts.
    """

    def statistic(rows: np.ndarray) -> float:
        kind = positive[rows]
        first, second = int(kind.sum()), int((~kind).sum())
        if not first or not second:
            return math.nan
        return float((rankdata(scores[rows])[kind].sum() - first * (first + 1) / 2) / (first * second))

    return statistic


def ensemble_measures(panel: Panel, found: RewardScores) -> list[Measure]:
    """How far the members differ on held-out pairs, and the accuracy where they agree on the better side and where not.

    Each member's own mean is taken out first, since Bradley-Terry leaves its zero free. The accuracies are of the
    mean over members. Source of the spread as doubt: Coste et al. 2023, arXiv:2310.02743.
    """
    if not panel.pairs:
        return []
    members = np.asarray([[scores[text_of(pair.prompt, side)] for scores in found.members(REWARD)]
                          for pair in panel.pairs for side in text_pair(pair)])  # fmt: skip
    doubt = (members - members.mean(0)).std(1).reshape(-1, 2).mean(1) / (members.mean(1).std() or math.nan)
    signs = np.sign(members[::2] - members[1::2])
    agree, right = (signs == signs[:, :1]).all(1), correct(pair_scores(panel.pairs, found.of(REWARD)).margins)
    groups, count = [pair.group for pair in panel.pairs], int(agree.sum())
    items = pair_names(panel.pairs)
    return [
        Measure("ensemble_spread", "sd", mean_of(doubt), groups, "over members, in deviations of the mean score",
                items=items),
        Measure("ensemble_agreement", "share", mean_of(agree.astype(float)), groups, "all members prefer one side",
                items=items),
        Measure("accuracy_ensemble_agrees", "share", _mean_where(right, agree), groups, f"on {count} of the pairs"),
        Measure("accuracy_ensemble_differs", "share", _mean_where(right, ~agree), groups,
                f"on {len(agree) - count} of the pairs"),
    ]  # fmt: skip


def _mean_where(values: np.ndarray, where: np.ndarray) -> Statistic:
    """Over all rows, so that two arms whose members agree elsewhere can be compared on the same draw."""
    return lambda rows: mean_of(values)(rows[where[rows]])


def head_items(asked: Asked, measured: Sequence[RewardScores]) -> Iterator[dict[str, Any]]:
    """One row a pair of a criterion and one a safety label, with the scores under each arm that has the head."""
    for criterion, pairs in asked.criteria.items():
        arms = arms_with(measured, criterion)
        for pair in pairs:
            row = {"kind": "criterion", "criterion": criterion, "comparison": pair.comparison, "group": pair.group}
            row |= {"prompt": pair.prompt, **(sides := text_pair(pair)._asdict())}
            yield row | {f"{side}_{arm}": scores[text_of(pair.prompt, text)]
                         for arm, scores in arms for side, text in sides.items()}  # fmt: skip
    arms = arms_with(measured, COST)
    for one in asked.safety:
        key = text_of(one.prompt, one.completion)
        yield {"kind": "safety", **one._asdict(), **{arm: scores[key] for arm, scores in arms}}
