"""What the mitigation changes of a reward model's data: who is in which group, swapped copies, votes by annotators."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch

from alignment.data.judgments import Judgment, sign
from alignment.data.labels import Judged, Label
from alignment.data.text import Messages
from alignment.mitigation.annotators import Votes
from alignment.mitigation.counterfactual import gender_matters, swap
from alignment.mitigation.groups import balanced_weights, read_groups


def grouped(comparisons: Sequence[Judged], path: str) -> list[Judged]:
    """The comparisons in the groups that a JSON file gives them by name. Raises JobError."""
    groups = read_groups(path)
    return [replace(one, group=groups.get(one.name, one.group)) for one in comparisons]


def augmented(comparisons: Sequence[Judged]) -> list[Judged]:
    """Every comparison that names a gender, at half its weight, and its counterfactual at the other half.

    Left as they are: those where gender matters to what is said. The swapped copy keeps its group and its labels.

    Source: Zhao et al. 2018, arXiv:1804.06876; the weights keep the mass of the data.
    """
    found: list[Judged] = []
    for one in comparisons:
        copy = replace(one, prompt=_swapped(one.prompt), texts=[_swapped(text) for text in one.texts])
        if (copy.prompt, copy.texts) == (one.prompt, one.texts) or _matters(one):
            found.append(one)
        else:
            halves = [said._replace(weight=said.weight / 2) for said in one.said]
            found += [replace(one, said=halves), replace(copy, said=halves)]
    return found


def _swapped(messages: Messages) -> Messages:
    return [{**message, "content": swap(message["content"])} for message in messages]


def _matters(one: Judged) -> bool:
    return any(gender_matters(message["content"]) for text in [one.prompt, *one.texts] for message in text)


def balanced(examples: Sequence[Any]) -> list[Any]:
    """The examples with weights that let their groups count alike."""
    weights = balanced_weights([example.group for example in examples])
    return [
        example._replace(**{kind: tuple(one._replace(weight=one.weight * weight) for one in getattr(example, kind))
                            for kind in ("labels", "rankings", "safety")})
        for example, weight in zip(examples, weights, strict=True)
    ]  # fmt: skip


def numbered(comparisons: Sequence[Judged], votes: Sequence[Sequence[Judgment]]) -> tuple[list[str], Votes]:
    """(annotators, their votes) on the pairs of the comparisons' labels, which get their numbers in place.

    A tie is no vote. A pair without a vote keeps its label as it is.
    """
    by_name = {str(judgments[0].comparison): judgments for judgments in votes}
    annotators = sorted({judgment.annotator for judgments in votes for judgment in judgments})
    places, found, pairs = {name: place for place, name in enumerate(annotators)}, [], 0
    for one in comparisons:
        for at, label in enumerate(one.said):
            said = _signs(one, label, by_name.get(one.name, [])) if isinstance(label, Label) else []
            if said:
                found += [(pairs, places[annotator], side) for annotator, side in said]
                one.said[at] = label._replace(number=pairs)
                pairs += 1
    numbers = torch.tensor(found, dtype=torch.float64).view(-1, 3)
    return annotators, Votes(numbers[:, 0].long(), numbers[:, 1].long(), numbers[:, 2], pairs)


def _signs(one: Judged, label: Label, judgments: Sequence[Judgment]) -> list[tuple[str, int]]:
    """(annotator, 1 for the label's first text or -1 for its second) of everybody who prefers one."""
    first, second = (one.texts[place][-1]["content"] for place in (label.first, label.second))
    found = []
    for judgment in judgments:
        level = {judgment.texts[place]: number for number, tier in enumerate(judgment.tiers()) for place in tier}
        if first in level and second in level and level[first] != level[second]:
            found.append((judgment.annotator, sign(level[second] - level[first])))
    return found
