"""Several heads on one trunk: what they are called, and how an ensemble's scores become one.

A head is a row of the score weight, and `id2label` in config.json names it: "reward", or "reward#0", "reward#1", ...
for an ensemble; a criterion's key; "cost", which is above 0 for what is rather unsafe than safe.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor
from transformers import PreTrainedModel

from alignment.config import COST, REWARD, Heads, JobError
from alignment.manifest import read_json
from alignment.models.checkpoints import score_head


def head_names(heads: Heads) -> list[str]:
    rewards = [REWARD] if heads.ensemble == 1 else [f"{REWARD}#{number}" for number in range(heads.ensemble)]
    return [*rewards, *heads.criteria, *([COST] if heads.safety else [])]


def names_of(model: PreTrainedModel) -> list[str]:
    """The names of a reward model's heads. A checkpoint of one label without a name holds the reward."""
    names = [model.config.id2label[number] for number in range(model.config.num_labels)]
    return [REWARD] if names == ["LABEL_0"] else names


def heads_at(path: str | Path) -> list[str]:
    """The heads of a reward model's directory, an ensemble as one, without loading its weights."""
    labels = read_json(Path(path) / "config.json").get("id2label") or {}
    names = [labels[key] for key in sorted(labels, key=int)]
    return [REWARD] if names in ([], ["LABEL_0"]) else plain_names(names)


def plain_names(names: Sequence[str]) -> list[str]:
    """Each name once, an ensemble's without the numbers of its members."""
    return list(dict.fromkeys(name.partition("#")[0] for name in names))


def columns_of(names: Sequence[str], head: str) -> list[int]:
    """The columns of a head, several for an ensemble. Raises JobError for a head that is not there."""
    found = [number for number, name in enumerate(names) if head in (name, name.partition("#")[0])]
    if not found:
        raise JobError(f"the reward model has no head {head!r}; it has {', '.join(names)}")
    return found


@torch.no_grad()
def one_head(model: PreTrainedModel, head: str = REWARD) -> PreTrainedModel:
    """The model with this head alone: of an ensemble the mean, which is a head itself, since heads are linear."""
    layer, columns = score_head(model), columns_of(names_of(model), head)
    if layer.out_features > 1:
        model.score = torch.nn.Linear(layer.in_features, 1, bias=False).to(layer.weight)
        model.score.weight.copy_(layer.weight[columns].mean(dim=0, keepdim=True))
        model.config.num_labels = model.num_labels = 1
    return model


def aggregated(scores: Tensor, aggregate: str, penalty: float = 0.0) -> Tensor:
    """One score (B,) a text from those of an ensemble, (B, E).

    Args:
        aggregate: "mean"; "min", the worst case (WCO); or "penalised", the mean less `penalty` times the variance
            over the members (UWO).
        penalty: reward for each unit of variance, 0 or more.

    Raises:
        ValueError: for another aggregate.

    Source: Coste et al. 2023, arXiv:2310.02743, section 3.2.
    """
    if aggregate == "mean":
        return scores.mean(dim=1)
    if aggregate == "min":
        return scores.amin(dim=1)
    if aggregate == "penalised":
        return scores.mean(dim=1) - penalty * scores.var(dim=1, correction=0)
    raise ValueError(f"aggregate is {aggregate!r}: mean, min or penalised")


@torch.no_grad()
def drop_last_head(model: PreTrainedModel) -> None:
    """Leave a model of two heads with the first alone, in place: the length that the second took is not rewarded."""
    head = score_head(model)
    head.weight = torch.nn.Parameter(head.weight[:1].clone())
    head.out_features = model.num_labels = model.config.num_labels = 1
