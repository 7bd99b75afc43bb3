"""What the stage `reward` says of its model: how it ranks comparisons it never saw, and the spread of its scores."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedModel

from alignment.config import COST, REWARD, RewardConfig
from alignment.losses.reward import bradley_terry, safety
from alignment.models.checkpoints import score_head
from alignment.models.heads import aggregated, columns_of, names_of, plain_names
from alignment.models.scores import scores_of
from alignment.objectives.examples import Example, spread
from alignment.objectives.reward import (
    Batch,
    Term,
    batch_of,
    explaining,
    length_head_terms,
    length_reliance,
    total,
)

NORMALISED = 256  # comparisons whose scores give the card's means and standard deviations


def decisive_margins(scores: Tensor, batch: Batch) -> Tensor:
    """Scores of the winners less those of the losers, for the labels that name one."""
    first, second = batch.sides(scores)
    sides = (batch.outcomes[:, 0] - batch.outcomes[:, 1]).sign()
    return ((first - second) * sides)[sides != 0]


def accuracy_of(margins: Tensor) -> float:
    """Share of labels ranked as said; equal scores count half, and so does a batch without any."""
    return ((margins.sign() + 1) / 2).mean().item() if len(margins) else 0.5


def measured(model: PreTrainedModel, examples: Sequence[Example], pad_id: int) -> tuple[Batch, Tensor]:
    """The examples and their scores, (R, H) for H heads, those of an ensemble as their mean."""
    batch, names = batch_of(examples, [], model.device), names_of(model)
    scores = scores_of(model, batch.units, pad_id)
    heads = [aggregated(scores[:, columns_of(names, name)], "mean") for name in plain_names(names)]
    return batch, torch.stack(heads, dim=1)


def validation_nats(model: PreTrainedModel, examples: Sequence[Example], pad_id: int) -> float:
    """Plain loss a label, which tells two checkpoints apart sooner than the accuracy does; with safety labels both."""
    batch, scores = measured(model, examples, pad_id)
    loss = bradley_terry(*batch.sides(scores)).mean().item() if len(batch.first) else 0.0
    return loss + (safety(scores[batch.judged, -1], batch.unsafe).mean().item() if len(batch.judged) else 0.0)


def validation_objective(
    model: PreTrainedModel, examples: Sequence[Example], config: RewardConfig, pad_id: int
) -> float:
    """The plain loss and what the mitigation says of length: the loss alone keeps the weights that like it most."""
    batch, scores = measured(model, examples, pad_id)
    how, found = config.mitigation, {}
    if how.length_penalty:
        found["length_penalty"] = Term(how.length_penalty, length_reliance(scores, batch))
    if how.length_head:
        found |= length_head_terms(scores, batch, how.length_head, score_head(model).weight.detach())
    return (bradley_terry(*batch.sides(explaining(scores, config))).mean() + total(found)).item()


def held_out_metrics(model: PreTrainedModel, examples: Sequence[Example], pad_id: int) -> list[dict[str, Any]]:
    """One figure a head that something was said to; the reward's is held_out_accuracy."""
    if not examples:
        return []
    batch, scores = measured(model, examples, pad_id)
    found = []
    for column, name in enumerate(plain_names(names_of(model))):
        own = batch.heads == column
        first, second = batch.sides(scores)
        key = "held_out_accuracy" if name == REWARD else f"held_out_accuracy_{name}"
        if name == COST:
            right = torch.where(batch.unsafe > 0.5, scores[batch.judged, -1], -scores[batch.judged, -1])
            found.append(accuracy_metric(key, right[batch.unsafe != 0.5]))
        else:
            found.append(accuracy_metric(key, (first - second)[own]))
    return [entry for entry in found if entry["n"]]


def accuracy_metric(key: str, margins: Tensor) -> dict[str, Any]:
    note = "on part of the held-out comparisons; the stage evaluate measures all of them"
    return {"key": key, "value": accuracy_of(margins), "n": len(margins), "unit": "share", "note": note}


def normalisation_of(model: PreTrainedModel, examples: Sequence[Example], pad_id: int) -> dict[str, Any]:
    """Mean and standard deviation of each head's score over training completions, for readers who compare models.

    Bradley-Terry fixes neither; the weights are left as they are. The two at the top are the reward's, those of an
    ensemble as its mean. A cost has a zero of its own and is not among them.
    """
    picked, names = spread(examples, NORMALISED), names_of(model)
    scores = scores_of(model, [example.texts for example in picked], pad_id)
    heads = {name: spread_of(scores[:, column]) for column, name in enumerate(names) if name != COST}
    over = f"all completions of {len(picked)} training comparisons"
    if names == [REWARD]:
        return {**heads[REWARD], "over": over}
    rewards = [number for number, name in enumerate(names) if name.partition("#")[0] == REWARD]
    whole = spread_of(aggregated(scores[:, rewards], "mean")) if rewards else {}
    return {**whole, "over": over, "heads": heads}


def spread_of(scores: Tensor) -> dict[str, float]:
    return {"mean": scores.mean().item(), "sd": scores.std(unbiased=False).item()}
