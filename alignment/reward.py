"""The stage `reward`: a Bradley-Terry reward model on a snapshot's pairs, its score read at the end token.

Inputs: snapshot, parent (a policy). Dropout is off, so a pair's two scores differ by their texts alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from alignment import loop
from alignment.batches import batch_at, step_count
from alignment.card import card_of
from alignment.config import Job, JobError, RewardConfig
from alignment.counterfactual import TRAIN_TEMPLATES, swap, template_texts
from alignment.loop import Step, Watch
from alignment.losses.mitigation import counterfactual_penalty
from alignment.losses.pairwise import weighted_mean
from alignment.losses.reward import bradley_terry, centering, half_win_tie
from alignment.model import reward_from_policy, save_checkpoint
from alignment.pairs import EncodedPair, Pair, encode_pairs, part_groups, read_pairs, read_ties
from alignment.scores import MICRO_TOKENS, Unit, backward, encode_text_row, scores_of
from alignment.text import Messages, load_tokenizer

HELD_OUT_PAIRS = 96  # measured here; the full figure is the stage `evaluate`'s
NORMALISED_PAIRS = 256  # whose scores give the card's mean and standard deviation
VALIDATION_SHARE = 0.05  # of the training pairs, by groups: they choose the best weights, as the test pairs must not


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


class RewardData(NamedTuple):
    train: list[EncodedPair]
    validation: list[EncodedPair]  # decisive training pairs of groups set aside, which choose the best weights
    held_out: list[EncodedPair]  # a fixed part of the test pairs, measured once at the end
    natural: list[Unit]
    templates: list[Unit]
    dropped: int  # pairs longer than max_length, left out of train


def read_data(tokenizer: PreTrainedTokenizerBase, snapshot: Path, config: RewardConfig) -> RewardData:
    """Everything the stage reads from the snapshot, encoded. Raises JobError where nothing can be learned."""
    pairs, set_aside = part_groups(read_pairs(snapshot, "train"), share=VALIDATION_SHARE, most=HELD_OUT_PAIRS)
    ties = read_ties(snapshot, "train") if config.tie_weight else []
    unseen = {pair.group for pair in set_aside}
    encoded, dropped = encode_pairs(tokenizer, pairs + [t for t in ties if t.group not in unseen], config.max_length)
    validation, _ = encode_pairs(tokenizer, set_aside, config.max_length)
    if not any(not pair.tie for pair in encoded):
        limit = f"{config.max_length} tokens"
        raise JobError(f"{snapshot} has no training pair of at most {limit}; freeze more judgments or raise max_length")
    test = read_pairs(snapshot, "test")
    picked = [test[i] for i in np.linspace(0, len(test) - 1, min(len(test), HELD_OUT_PAIRS)).astype(int)]
    held_out, _ = encode_pairs(tokenizer, picked, config.max_length)
    pool = (
        counterfactual_pool(tokenizer, pairs, config.max_length) if config.counterfactual_weight else ([], [])
    )
    return RewardData(encoded, validation, held_out, *pool, dropped=len(dropped))


def train(
    job: Job, config: RewardConfig, model: PreTrainedModel, data: RewardData, pad_id: int
) -> dict[str, Any]:
    """The run, from the saved state where there is one; returns facts for the card.

    No clock is among them: a run that was killed and resumed ends in the very same artifact.
    """
    plan, lengths = config.optimization, [pair.tokens for pair in data.train]
    steps = step_count(len(lengths), batch_size=plan.batch_size, epochs=plan.epochs, max_steps=plan.max_steps)

    def take_step(step: int) -> Step:
        rows = batch_at(lengths, batch_size=plan.batch_size, seed=job.seed, step=step)
        pairs = [data.train[i] for i in rows]
        counterfactuals = draw_counterfactuals(
            data.natural, data.templates, count=len(pairs) if data.templates else 0, seed=job.seed, step=step
        )
        stats = accumulate(model, pairs, counterfactuals, config, pad_id=pad_id)
        tokens = sum(len(text) for unit in [*map(unit_of, pairs), *counterfactuals] for text in unit)
        return Step(stats.loss_nats, tokens, stats._asdict())

    def measure() -> dict[str, float]:
        return {"validation_nats": validation_nats(model, data.validation, pad_id)}

    watch = Watch(measure, "validation_nats", higher_is_better=False) if data.validation else None
    facts = loop.train(job, plan, model, steps=steps, take_step=take_step, watch=watch)
    ties = sum(pair.tie for pair in data.train)
    return {"pairs": len(data.train) - ties, "ties": ties, **facts}


def validation_nats(model: PreTrainedModel, pairs: Sequence[EncodedPair], pad_id: int) -> float:
    """Plain Bradley-Terry loss a pair, which tells two checkpoints apart sooner than the accuracy does."""
    scores = scores_of(model, [unit_of(pair) for pair in pairs], pad_id)
    return bradley_terry(scores[:, 0], scores[:, 1]).mean().item()


def held_out_accuracy(model: PreTrainedModel, pairs: Sequence[EncodedPair], pad_id: int) -> float:
    scores = scores_of(model, [unit_of(pair) for pair in pairs], pad_id)
    return accuracy_of(scores[:, 0] - scores[:, 1])


def held_out_metric(model: PreTrainedModel, pairs: Sequence[EncodedPair], pad_id: int) -> dict[str, Any]:
    note = "on part of the held-out pairs; the stage evaluate measures all of them"
    value = held_out_accuracy(model, pairs, pad_id)
    return {"key": "held_out_accuracy", "value": value, "n": len(pairs), "unit": "share", "note": note}


def normalisation_of(model: PreTrainedModel, pairs: Sequence[EncodedPair], pad_id: int) -> dict[str, Any]:
    """Mean and standard deviation of the score over training completions, for readers who compare models.

    Bradley-Terry fixes neither; the weights are left as they are.
    """
    picked = [pairs[i] for i in np.linspace(0, len(pairs) - 1, min(len(pairs), NORMALISED_PAIRS)).astype(int)]
    scores = scores_of(model, [unit_of(pair) for pair in picked], pad_id)
    over = f"both completions of {len(picked)} training pairs"
    return {"mean": scores.mean().item(), "sd": scores.std(unbiased=False).item(), "over": over}


class RewardStats(NamedTuple):
    loss_nats: float  # the whole objective
    preference_nats: float  # Bradley-Terry and ties alone
    accuracy: float  # share of decisive pairs ranked as labeled, 0 to 1
    margin: float  # mean score of chosen minus rejected
    counterfactual_penalty: float  # in variances of the score; 0 without the mitigation


class Parts(NamedTuple):
    """The terms of the objective, each a scalar."""

    preference: Tensor
    centering: Tensor
    counterfactual: Tensor

    def total(self, config: RewardConfig) -> Tensor:
        return (
            self.preference
            + config.centering * self.centering
            + config.counterfactual_weight * self.counterfactual
        )


def objective_parts(scores: Tensor, pairs: Sequence[EncodedPair], config: RewardConfig) -> Parts:
    """The terms for scores (U, 2): the first rows are those of the pairs, the others of texts and counterfactuals."""
    chosen, rejected = scores[: len(pairs)].unbind(dim=1)
    ties = torch.tensor([p.tie for p in pairs], device=scores.device)
    margins = torch.tensor([p.margin for p in pairs], dtype=scores.dtype, device=scores.device)
    decided = bradley_terry(
        chosen, rejected, margins=margins, margin=config.margin, label_smoothing=config.label_smoothing
    )
    losses = torch.where(ties, half_win_tie(chosen, rejected), decided)
    weights = torch.tensor([p.weight * (config.tie_weight if p.tie else 1.0) for p in pairs], device=scores.device)
    counterfactuals = scores[len(pairs) :]
    penalty = scores.new_zeros(())
    if len(counterfactuals):
        penalty = counterfactual_penalty(*counterfactuals.unbind(dim=1), scores[: len(pairs)].flatten())
    return Parts(weighted_mean(losses, weights), centering(chosen, rejected).mean(), penalty)


def accumulate(
    model: PreTrainedModel,
    pairs: Sequence[EncodedPair],
    counterfactuals: Sequence[Unit],
    config: RewardConfig,
    *,
    pad_id: int,
    tokens: int = MICRO_TOKENS,
) -> RewardStats:
    """Add the gradient of the objective on one batch of pairs."""
    units = [*map(unit_of, pairs), *counterfactuals]
    scores = backward(model, units, pad_id, lambda s: objective_parts(s, pairs, config).total(config), tokens)
    parts = objective_parts(scores, pairs, config)
    decisive = [i for i, pair in enumerate(pairs) if not pair.tie]
    margins = (scores[decisive, 0] - scores[decisive, 1]).cpu()
    return RewardStats(
        loss_nats=parts.total(config).item(),
        preference_nats=parts.preference.item(),
        accuracy=accuracy_of(margins) if decisive else 0.5,
        margin=margins.mean().item() if decisive else 0.0,
        counterfactual_penalty=parts.counterfactual.item(),
    )


def accuracy_of(margins: Tensor) -> float:
    """Share of pairs ranked as labeled; equal scores count half."""
    return ((margins.sign() + 1) / 2).mean().item()


def unit_of(pair: EncodedPair) -> Unit:
    return [*pair.prompt, *pair.chosen], [*pair.prompt, *pair.rejected]


def counterfactual_pool(
    tokenizer: PreTrainedTokenizerBase, pairs: Sequence[Pair], max_length: int
) -> tuple[list[Unit], list[Unit]]:
    """(natural, templates): texts of the training pairs that the swap changes, and the training templates."""
    texts = {
        (_key(pair.prompt), pair.prompt[-1]["content"], side[-1]["content"]): pair.prompt
        for pair in pairs
        for side in (pair.chosen, pair.rejected)
    }
    natural = [_counterfactual(tokenizer, prompt, text, max_length) for (_, _, text), prompt in texts.items()]
    question = [{"role": "user", "content": TRAIN_TEMPLATES.question}]
    templates = [
        _counterfactual(tokenizer, question, text, max_length) for _, text in template_texts(TRAIN_TEMPLATES)
    ]
    return [u for u in natural if u[0] != u[1]], templates


def _key(prompt: Messages) -> str:
    return "\n".join(message["content"] for message in prompt)


def _counterfactual(tokenizer: PreTrainedTokenizerBase, prompt: Messages, text: str, max_length: int) -> Unit:
    swapped = [{**message, "content": swap(message["content"])} for message in prompt]
    return encode_text_row(tokenizer, prompt, text, max_length), encode_text_row(
        tokenizer, swapped, swap(text), max_length
    )


def draw_counterfactuals(
    natural: Sequence[Unit], templates: Sequence[Unit], *, count: int, seed: int, step: int
) -> list[Unit]:
    """Half natural texts (where there are any) and half templates: a pure function of the seed and the step.

    At most `count`: a large batch takes every template once.
    """
    generator = np.random.default_rng([seed, step, 1])
    from_data = min(count // 2, len(natural))
    picked = (
        [natural[i] for i in generator.choice(len(natural), from_data, replace=False)] if from_data else []
    )
    from_templates = min(count - from_data, len(templates))
    return picked + [templates[i] for i in generator.choice(len(templates), from_templates, replace=False)]
