"""The stage `reward`: a reward model on a snapshot's comparisons, its score read at the end token.

Inputs: snapshot, parent (a policy). Dropout is off, so a pair's two scores differ by their texts alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedModel

from alignment import loop
from alignment.batches import batch_at, step_count
from alignment.card import card_of
from alignment.config import Job, RewardConfig
from alignment.loop import Step, Watch
from alignment.losses.reward import bradley_terry
from alignment.model import reward_from_policy, save_checkpoint
from alignment.reward_data import Example, RewardData, draw_counterfactuals, read_data, spread
from alignment.reward_objective import Batch, TieParameter, batch_of, terms, total
from alignment.scores import MICRO_TOKENS, backward, scores_of
from alignment.text import load_tokenizer

NORMALISED = 256  # comparisons whose scores give the card's mean and standard deviation


def run(job: Job, config: RewardConfig) -> dict[str, Any]:
    """Train to the end and write the checkpoint. Inputs: snapshot, parent."""
    snapshot, parent = job.input_path("snapshot"), job.input_path("parent")
    tokenizer = load_tokenizer(parent)
    data = read_data(tokenizer, snapshot, config)
    model = reward_from_policy(parent)
    facts = train(job, config, model, data, tokenizer.pad_token_id)
    normalisation = normalisation_of(model, data.train, tokenizer.pad_token_id)
    metrics = [held_out_metric(model, data.held_out, tokenizer.pad_token_id)] if data.held_out else []
    card = card_of(
        job, config, metrics=metrics, normalisation=normalisation, dropped_pairs=data.dropped, **facts
    )
    path = Path(job.output) / "checkpoint"
    digest = save_checkpoint(model, tokenizer, path, card)
    return {
        "checkpoint": {"path": str(path), "sha256": digest},
        "metrics": metrics,
        "dropped_pairs": data.dropped,
    }


def train(
    job: Job, config: RewardConfig, model: PreTrainedModel, data: RewardData, pad_id: int
) -> dict[str, Any]:
    """The run, from the saved state where there is one; returns facts for the card.

    No clock is among them: a run that was killed and resumed ends in the very same artifact.
    """
    plan, lengths = config.optimization, [example.tokens for example in data.train]
    steps = step_count(len(lengths), batch_size=plan.batch_size, epochs=plan.epochs, max_steps=plan.max_steps)
    ties = TieParameter(tie_share(data.train), config.labels.tie_parameter) if config.tie_weight else None

    def take_step(step: int) -> Step:
        rows = batch_at(lengths, batch_size=plan.batch_size, seed=job.seed, step=step)
        count = len(rows) if data.templates else 0
        swapped = draw_counterfactuals(data.natural, data.templates, count=count, seed=job.seed, step=step)
        batch = batch_of([data.train[i] for i in rows], swapped, model.device)
        values = accumulate(model, batch, config, ties, pad_id=pad_id)
        tokens = sum(len(text) for unit in batch.units for text in unit)
        return Step(values["loss_nats"], tokens, values)

    def measure() -> dict[str, float]:
        return {"validation_nats": validation_nats(model, data.validation, pad_id)}

    watch = Watch(measure, "validation_nats", higher_is_better=False) if data.validation else None
    parts = {"ties": ties} if ties else {}
    facts = loop.train(job, plan, model, steps=steps, take_step=take_step, parts=parts, watch=watch)
    return {**label_counts(data.train), **({"tie_parameter": ties.nu} if ties else {}), **facts}


def tie_share(examples: Sequence[Example]) -> float:
    """Share of ties among the labels under their weights; half a tie where there is none, so that nu is not 0."""
    labels = [label for example in examples for label in example.labels]
    ties, whole = (sum(label.weight * part for label in labels for part in label.outcomes[cut:]) for cut in (2, 0))
    return max(ties, 0.5 * whole / len(labels)) / whole


def label_counts(examples: Sequence[Example]) -> dict[str, int]:
    labels = [label for example in examples for label in example.labels]
    ties = sum(not label.decisive for label in labels)
    return {"pairs": len(labels) - ties, "ties": ties}


def accumulate(
    model: PreTrainedModel,
    batch: Batch,
    config: RewardConfig,
    ties: TieParameter | None,
    *,
    pad_id: int,
    tokens: int = MICRO_TOKENS,
) -> dict[str, float]:
    """Add the gradient of the objective on one batch, and return the figures of the step's line."""
    log_nu = ties.log(model.device) if ties else None
    scores = backward(model, batch.units, pad_id, lambda s: total(terms(s, batch, config, log_nu)), tokens)
    with torch.no_grad():
        found = terms(scores, batch, config, log_nu)
    values = {"loss_nats": total(found).item(), **{name: term.value.item() for name, term in found.items()}}
    if ties:
        ties.learn(log_nu, batch)
        values["tie_parameter"] = ties.nu
    margins = decisive_margins(scores, batch)
    return {**values, "accuracy": accuracy_of(margins), "margin": margins.mean().item() if len(margins) else 0.0}


def decisive_margins(scores: Tensor, batch: Batch) -> Tensor:
    """Scores of the winners less those of the losers, for the labels that name one."""
    first, second = batch.sides(scores)
    sides = (batch.outcomes[:, 0] - batch.outcomes[:, 1]).sign()
    return ((first - second) * sides)[sides != 0]


def accuracy_of(margins: Tensor) -> float:
    """Share of labels ranked as said; equal scores count half, and so does a batch without any."""
    return ((margins.sign() + 1) / 2).mean().item() if len(margins) else 0.5


def validation_nats(model: PreTrainedModel, examples: Sequence[Example], pad_id: int) -> float:
    """Plain Bradley-Terry loss a label, which tells two checkpoints apart sooner than the accuracy does."""
    batch = batch_of(examples, [], model.device)
    return bradley_terry(*batch.sides(scores_of(model, batch.units, pad_id))).mean().item()


def held_out_metric(model: PreTrainedModel, examples: Sequence[Example], pad_id: int) -> dict[str, Any]:
    note = "on part of the held-out comparisons; the stage evaluate measures all of them"
    batch = batch_of(examples, [], model.device)
    margins = decisive_margins(scores_of(model, batch.units, pad_id), batch)
    return {
        "key": "held_out_accuracy", "value": accuracy_of(margins), "n": len(margins), "unit": "share", "note": note
    }  # fmt: skip


def normalisation_of(model: PreTrainedModel, examples: Sequence[Example], pad_id: int) -> dict[str, Any]:
    """Mean and standard deviation of the score over training completions, for readers who compare models.

    Bradley-Terry fixes neither; the weights are left as they are.
    """
    picked = spread(examples, NORMALISED)
    scores = scores_of(model, [example.texts for example in picked], pad_id)
    over = f"all completions of {len(picked)} training comparisons"
    return {"mean": scores.mean().item(), "sd": scores.std(unbiased=False).item(), "over": over}
