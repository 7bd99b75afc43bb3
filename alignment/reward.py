"""The stage `reward`: a reward model on a snapshot's comparisons, its scores read at the end token.

Inputs: snapshot, parent (a policy). Dropout is off, so a pair's two scores differ by their texts alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from transformers import PreTrainedModel

from alignment import loop
from alignment.batches import batch_at, step_count
from alignment.card import card_of
from alignment.config import Job, RewardConfig
from alignment.counterfactual_units import counterfactual_pool, draw_counterfactuals
from alignment.heads import head_names
from alignment.loop import Step, Watch
from alignment.model import reward_from_policy, save_checkpoint
from alignment.precision import prepare_for_training
from alignment.reward_data import Example, RewardData, read_data
from alignment.reward_measures import (
    accuracy_of,
    decisive_margins,
    held_out_metrics,
    normalisation_of,
    validation_nats,
)
from alignment.reward_objective import Batch, TieParameter, batch_of, terms, total
from alignment.scores import MICRO_TOKENS, Unit, backward
from alignment.text import load_tokenizer


def run(job: Job, config: RewardConfig) -> dict[str, Any]:
    """Train to the end and write the checkpoint. Inputs: snapshot, parent."""
    snapshot, parent = job.input_path("snapshot"), job.input_path("parent")
    tokenizer = load_tokenizer(parent)
    data = read_data(tokenizer, snapshot, config, job.seed)
    model = reward_from_policy(parent, head_names(config.heads))
    swaps = ([], [])
    if config.counterfactual_weight:
        swaps = counterfactual_pool(tokenizer, data.comparisons, config.max_length)
    facts = train(job, config, model, data, swaps, tokenizer.pad_token_id)
    normalisation = normalisation_of(model, data.train, tokenizer.pad_token_id)
    metrics = held_out_metrics(model, data.held_out, tokenizer.pad_token_id)
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
    job: Job,
    config: RewardConfig,
    model: PreTrainedModel,
    data: RewardData,
    swaps: tuple[list[Unit], list[Unit]],
    pad_id: int,
) -> dict[str, Any]:
    """The run, from the saved state where there is one; returns facts for the card.

    No clock is among them: a run that was killed and resumed ends in the very same artifact.
    """
    plan, lengths = config.optimization, [example.tokens for example in data.train]
    precision = prepare_for_training(model, config, job.seed)
    steps = step_count(len(lengths), batch_size=plan.batch_size, epochs=plan.epochs, max_steps=plan.max_steps)
    ties = TieParameter(tie_share(data.train), config.labels.tie_parameter) if config.tie_weight else None
    natural, templates = swaps

    def take_step(step: int) -> Step:
        rows = batch_at(lengths, batch_size=plan.batch_size, seed=job.seed, step=step)
        swapped = draw_counterfactuals(
            natural, templates, count=len(rows) if templates else 0, seed=job.seed, step=step
        )
        batch = batch_of([data.train[i] for i in rows], swapped, model.device)
        values = accumulate(model, batch, config, ties, pad_id=pad_id, precision=precision)
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
    if not labels:
        return 0.5
    ties, whole = (sum(label.weight * sum(label.outcomes[cut:]) for label in labels) for cut in (2, 0))
    return max(ties, 0.5 * whole / len(labels)) / whole


def label_counts(examples: Sequence[Example]) -> dict[str, int]:
    """How many labels name a winner and how many none; for an ensemble those of all members."""
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
    precision: str = "fp32",
) -> dict[str, float]:
    """Add the gradient of the objective on one batch, and return the figures of the step's line."""
    log_nu = ties.log(model.device) if ties else None
    scores = backward(
        model, batch.units, pad_id, lambda s: total(terms(s, batch, config, log_nu)), tokens, precision
    )
    with torch.no_grad():
        found = terms(scores, batch, config, log_nu)
    values = {"loss_nats": total(found).item(), **{name: term.value.item() for name, term in found.items()}}
    if ties:
        ties.learn(log_nu, batch, config)
        values["tie_parameter"] = ties.nu
    margins = decisive_margins(scores, batch)
    return {**values, "accuracy": accuracy_of(margins), "margin": margins.mean().item() if len(margins) else 0.0}
