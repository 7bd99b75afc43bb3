"""The stage `reward`: a reward model on a snapshot's comparisons, its scores read at the end token.

Inputs: snapshot, parent (a policy). Dropout is off, so a pair's two scores differ by their texts alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor
from transformers import PreTrainedModel

from alignment import loop
from alignment.config import Job, RewardConfig
from alignment.data.batches import batch_at, step_count
from alignment.data.text import load_tokenizer
from alignment.loop import Step, Watch
from alignment.mitigation.annotators import Annotators
from alignment.mitigation.groups import GroupWeights
from alignment.models.card import card_of
from alignment.models.checkpoints import reward_from_policy, save_checkpoint, score_head
from alignment.models.heads import drop_last_head, head_names
from alignment.models.precision import prepare_for_training
from alignment.models.scores import HELD_TOKENS, Unit, backward
from alignment.objectives.counterfactual_units import counterfactual_pool, draw_counterfactuals
from alignment.objectives.examples import Example, RewardData, read_data
from alignment.objectives.held_out import (
    accuracy_of,
    decisive_margins,
    held_out_metrics,
    normalisation_of,
    validation_nats,
    validation_objective,
)
from alignment.objectives.reward import (
    Batch,
    Term,
    TieParameter,
    batch_of,
    believed,
    explaining,
    label_losses,
    length_head_terms,
    observe_votes,
    terms,
    total,
)

EASING = 0.2  # share of the run over which the length head's losses come in


def run(job: Job, config: RewardConfig) -> dict[str, Any]:
    """Train to the end and write the checkpoint. Inputs: snapshot, parent."""
    snapshot, parent = job.input_path("snapshot"), job.input_path("parent")
    tokenizer = load_tokenizer(parent)
    data = read_data(tokenizer, snapshot, config, job.seed)
    length = ["length"] if config.mitigation.length_head else []
    model = reward_from_policy(parent, [*head_names(config.heads), *length])
    swaps = ([], [])
    if config.counterfactual_weight:
        swaps = counterfactual_pool(tokenizer, data.comparisons, config.max_length)
    facts = train(job, config, model, data, swaps, tokenizer.pad_token_id)
    if length:
        drop_last_head(model)
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
    precision = prepare_for_training(model, config, job)
    steps = step_count(len(lengths), batch_size=plan.batch_size, epochs=plan.epochs, max_steps=plan.max_steps)
    learners, (natural, templates) = learners_of(data, config), swaps

    def take_step(step: int) -> Step:
        rows = batch_at(lengths, batch_size=plan.batch_size, seed=job.seed, step=step)
        swapped = draw_counterfactuals(
            natural, templates, count=len(rows) if templates else 0, seed=job.seed, step=step
        )
        batch = batch_of([data.train[i] for i in rows], swapped, model.device)
        batch = batch._replace(owners=[rows[number] for number in batch.owners])
        eased = min(1.0, step / (EASING * steps))
        values = accumulate(model, batch, config, learners, pad_id=pad_id, precision=precision, eased=eased)
        tokens = sum(len(text) for unit in batch.units for text in unit)
        return Step(values["loss_nats"], tokens, values)

    def measure() -> dict[str, float]:
        found = {"validation_nats": validation_nats(model, data.validation, pad_id)}
        if decides != "validation_nats":
            found[decides] = validation_objective(model, data.validation, config, pad_id)
        return found

    lengths_too = config.mitigation.length_penalty or config.mitigation.length_head
    decides = "validation_objective" if lengths_too else "validation_nats"
    watch = Watch(measure, decides, higher_is_better=False) if data.validation else None
    parts = {name: part for name, part in learners._asdict().items() if part}
    facts = loop.train(job, plan, model, steps=steps, take_step=take_step, parts=parts, watch=watch)
    return {**label_counts(data.train), **learned(learners, data), **facts}


class Learners(NamedTuple):
    """What a run learns beside the weights; each is a part of its state."""

    ties: TieParameter | None = None
    groups: GroupWeights | None = None
    annotators: Annotators | None = None


def learners_of(data: RewardData, config: RewardConfig) -> Learners:
    how = config.mitigation
    ties = TieParameter(tie_share(data.train), config.labels.tie_parameter) if config.tie_weight else None
    steps = {"rate": how.group_rate, "adjustment": how.group_adjustment, "floor": how.group_floor}
    groups = GroupWeights([example.group for example in data.train], **steps) if how.group_rate else None
    return Learners(ties, groups, Annotators(data.votes, len(data.annotators)) if data.annotators else None)


def learned(learners: Learners, data: RewardData) -> dict[str, Any]:
    """What the card says of it."""
    found: dict[str, Any] = {"tie_parameter": learners.ties.nu} if learners.ties else {}
    if learners.groups:
        found["group_weights"] = learners.groups.by_name()
    if learners.annotators:
        found["annotator_accuracies"] = dict(zip(data.annotators, learners.annotators.accuracies.tolist(), strict=True))
    return found


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
    learners: Learners,
    *,
    pad_id: int,
    tokens: int = HELD_TOKENS,
    precision: str = "fp32",
    eased: float = 1.0,
) -> dict[str, float]:
    """Add the gradient of the objective on one batch, and return the figures of the step's line.

    Args:
        eased: share of the length head's weight that counts. The judgments come first: a head that starts the wrong
            way round would be held there by losses that know correlations alone.
    """
    ties, groups, annotators = learners
    log_nu, length_head = ties.log(model.device) if ties else None, eased * config.mitigation.length_head
    if groups:
        batch = batch._replace(weights=groups.row_weights(batch.owners, batch.weights))

    def found(scores: Tensor) -> dict[str, Term]:
        judged = believed(batch, scores, annotators) if annotators else batch
        split = length_head_terms(scores, batch, length_head, score_head(model).weight) if length_head else {}
        return {**terms(scores, judged, config, log_nu), **split}

    scores = backward(model, batch.units, pad_id, lambda s: total(found(s)), tokens, precision)
    with torch.no_grad():
        parts = found(scores)
    values = {"loss_nats": total(parts).item(), **{name: term.value.item() for name, term in parts.items()}}
    if ties:
        ties.learn(log_nu, batch, config)
        values["tie_parameter"] = ties.nu
    if groups:
        losses = label_losses(explaining(scores, config), batch, config, log_nu)
        groups.observe(batch.owners, losses, batch.weights)
        values["heaviest_group"] = groups.weights.max().item()
    if annotators:
        values["vote_nats"] = observe_votes(batch, scores, annotators)
    margins = decisive_margins(scores, batch)
    return {**values, "accuracy": accuracy_of(margins), "margin": margins.mean().item() if len(margins) else 0.0}
