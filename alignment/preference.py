"""The stage `preference`: a policy learns from judgments directly: DPO and its relatives, KTO, SimPO and ORPO.

Inputs: snapshot, parent. The parent is the frozen reference: before the first step every implicit reward is 0, and
DPO's loss is ln 2.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

import torch
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from alignment import dry, loop
from alignment.config import Job, JobError, PreferenceConfig
from alignment.config.preferences import REFERENCE_FREE
from alignment.data.batches import batch_at, step_count
from alignment.data.judgments import read_votes, read_weights
from alignment.data.pairs import EncodedPair, Pair, encode_pairs, part_groups, read_pairs
from alignment.data.safety import safe_side_wins
from alignment.data.text import load_tokenizer
from alignment.loop import Guard, Step, Watch
from alignment.mitigation.groups import GroupWeights, balanced_weights, read_groups
from alignment.models.card import card_of
from alignment.models.checkpoints import load_policy, save_checkpoint
from alignment.models.precision import prepare_for_training
from alignment.models.sequences import Passes, frozen_logprobs
from alignment.objectives import paired, unpaired
from alignment.objectives.reference import cached_reference
from alignment.objectives.unpaired import Example
from alignment.sampling.shown import shown

VALIDATION_SHARE = 0.05  # of the training rows, by groups: they choose the best weights, as the test pairs must not
VALIDATION_ROWS = 96
DRY_ROWS = 64  # texts that a dry run asks the reference for

Item = EncodedPair | Example


class Data(NamedTuple):
    train: Sequence[Item]
    validation: Sequence[Item]  # too few rows in all: none
    dropped: int  # training rows that are too long


def run(job: Job, config: PreferenceConfig) -> dict[str, Any]:
    """Train to the end and write the checkpoint. Inputs: snapshot, parent."""
    snapshot, parent = job.input_path("snapshot"), job.input_path("parent")
    tokenizer = load_tokenizer(parent)
    data = read_data(tokenizer, snapshot, config, job.seed)
    model = load_policy(parent)
    show = shown(job, model, tokenizer, (item.prompt for item in [*data.validation, *data.train]), config.show)
    facts = train(job, config, model, data, tokenizer.pad_token_id, show)
    card = card_of(job, config, metrics=[], dropped_pairs=data.dropped, **facts)
    path = Path(job.output) / "checkpoint"
    digest = save_checkpoint(model, tokenizer, path, card)
    return {"checkpoint": {"path": str(path), "sha256": digest}, "metrics": [], "dropped_pairs": data.dropped}


def read_data(tokenizer: PreTrainedTokenizerBase, snapshot: Path, config: PreferenceConfig, seed: int) -> Data:
    """The rows that fit, some of them set aside. Raises JobError where nothing can be learned."""

    def encode(rows: Sequence[Any]) -> tuple[list[Item], int]:
        if config.loss == "kto":
            return unpaired.encode_examples(tokenizer, rows, config.unpaired, max_length=config.max_length, seed=seed)
        encoded, dropped = encode_pairs(tokenizer, rows, config.max_length, weights.of_comparison)
        return encoded, len(dropped)

    kto, file = config.loss == "kto", config.terms.weights_file
    weights = read_weights(file)
    if weights.annotators:
        raise JobError(f"{file} weighs annotators, but a decided pair names none; weigh comparisons")
    rows = unpaired.read_labeled(snapshot, config, weights) if kto else read_decisive(snapshot, config)
    rows = rows if kto else [pair for pair in rows if weights.of_comparison(pair.comparison) > 0]
    kept, set_aside = part_groups(rows, share=VALIDATION_SHARE, most=VALIDATION_ROWS)
    if kto and unpaired.prompt_count(set_aside) < 2:  # without a second prompt there is no baseline
        kept, set_aside = rows, []
    if not kto:  # after the split, which the prompts' own groups decide
        kept, set_aside = (regrouped(some, config.mitigation.groups_file) for some in (kept, set_aside))
    encoded, dropped = encode(kept)
    if not encoded:
        what = "labeled completion" if kto else "training pair"
        limit = f"{config.max_length} tokens"
        raise JobError(f"{snapshot} has no {what} of at most {limit}; freeze more judgments or raise max_length")
    encoded = balanced(encoded) if config.mitigation.group_balance else encoded
    return Data(encoded, encode(set_aside)[0], dropped)


def regrouped(pairs: Sequence[Pair], path: str) -> list[Pair]:
    """The pairs in the groups that a JSON file gives their comparisons. Raises JobError."""
    groups = read_groups(path)
    return [pair._replace(group=groups.get(str(pair.comparison), pair.group)) for pair in pairs]


def balanced(pairs: Sequence[EncodedPair]) -> list[EncodedPair]:
    """The pairs with weights that let their groups count alike."""
    weights = balanced_weights([pair.group for pair in pairs], rows=[pair.weight for pair in pairs])
    return [pair._replace(weight=pair.weight * weight) for pair, weight in zip(pairs, weights, strict=True)]


def read_decisive(snapshot: Path, config: PreferenceConfig) -> list[Pair]:
    """The training pairs; with the rule that what is safe wins also ties that it decides."""
    pairs = read_pairs(snapshot, "train")
    if not config.terms.safe_side_wins:
        return pairs
    return safe_side_wins(pairs, read_votes(snapshot, "train"))


def train(
    job: Job,
    config: PreferenceConfig,
    model: PreTrainedModel,
    data: Data,
    pad_id: int,
    show: Callable[[int], None] | None = None,
) -> dict[str, Any]:
    """The run, from the saved state where there is one; returns facts for the card.

    No clock is among them: a run that was killed and resumed ends in the very same artifact.
    """
    kind = unpaired if config.loss == "kto" else paired
    passes = Passes(pad_id, precision=prepare_for_training(model, config, job))
    reference, held_out_reference = references(job, config, model, data, kind, passes)
    plan, lengths = config.optimization, [item.tokens for item in data.train]
    steps = step_count(len(lengths), batch_size=plan.batch_size, epochs=plan.epochs, max_steps=plan.max_steps)
    groups = group_weights(data, config)

    def take_step(step: int) -> Step:
        rows = batch_at(lengths, batch_size=plan.batch_size, seed=job.seed, step=step)
        batch = [data.train[i] for i in rows]
        known = None if reference is None else reference[rows]
        weights = torch.tensor([item.weight for item in batch])
        if groups:
            values = robust_step(model, rows, batch, known, weights, groups, config, passes)
        else:
            values = kind.accumulate(model, batch, known, weights, config, passes)
        return Step(values[paired.loss_key(config.loss)], sum(row.tokens for row in kind.rows_of(batch)), values)

    def measure() -> dict[str, float]:
        return kind.measure(model, data.validation, held_out_reference, config, passes)

    decides = "validation_worst_loss" if groups else "validation_loss"
    watch = Watch(measure, decides, higher_is_better=False) if data.validation else None
    how = {"parts": {"groups": groups} if groups else {}, "watch": watch, "guards": guards_of(config), "show": show}
    facts = loop.train(job, plan, model, steps=steps, take_step=take_step, **how)
    counts = {"pairs": len(data.train), "validation_pairs": len(data.validation)}
    found = {"group_weights": groups.by_name()} if groups else {}
    return {**counts, **found, "precision": passes.precision, **facts}


def group_weights(data: Data, config: PreferenceConfig) -> GroupWeights | None:
    """Those that follow the worst-off group, where the config asks for them."""
    how = config.mitigation
    if not how.group_rate:
        return None
    steps = {"rate": how.group_rate, "adjustment": how.group_adjustment, "floor": how.group_floor}
    return GroupWeights([pair.group for pair in data.train], **steps)


def robust_step(
    model: PreTrainedModel,
    rows: Sequence[int],
    pairs: Sequence[EncodedPair],
    reference: Tensor | None,
    weights: Tensor,
    groups: GroupWeights,
    config: PreferenceConfig,
    passes: Passes,
) -> dict[str, float]:
    """`paired.accumulate` of these training rows under their groups' weights, which then follow the losses.

    Source: Sagawa et al. 2020, arXiv:1911.08731, algorithm 1; on DPO and IPO as in Ramesh et al. 2024,
    arXiv:2405.20304, algorithm 1.
    """

    def observe(losses: Tensor) -> None:
        groups.observe(rows, losses, weights)

    counted = groups.row_weights(rows, weights)
    values = paired.accumulate(model, pairs, reference, counted, config, passes, observe)
    return {**values, "heaviest_group": groups.weights.max().item()}


def references(
    job: Job, config: PreferenceConfig, model: PreTrainedModel, data: Data, kind: ModuleType, passes: Passes
) -> tuple[Tensor | None, Tensor | None]:
    """Log-probabilities (N, 2) under the parent of the training and of the held-out rows; none for SimPO and ORPO.

    The model is still the parent, with LoRA too: a fresh adapter changes nothing, and the saved state is loaded later.
    So no second copy of the weights is ever held.
    """
    if config.loss in REFERENCE_FREE:
        return None, None
    rows = kind.rows_of([*data.train, *data.validation])
    if job.dry_run:
        known = timed_reference(job, model, rows, passes).to(model.device).view(-1, 2)
        return known[: len(data.train)], known[len(data.train) :]
    cache, precision = config.reference_cache, passes.precision
    known = cached_reference(job, cache, rows, precision, lambda: frozen_logprobs(model, rows, passes))
    known = known.to(model.device).view(-1, 2)
    return known[: len(data.train)], known[len(data.train) :]


def timed_reference(job: Job, model: PreTrainedModel, rows: Sequence[Any], passes: Passes) -> Tensor:
    """Log-probabilities of some rows, again and again in the place of the others': a dry run only needs their time."""
    some, took = rows[:DRY_ROWS], []
    with dry.timed(took):
        known = frozen_logprobs(model, some, passes)
    dry.leave_out(job.output, dry.mean(took) * (len(rows) / len(some) - 1))
    return known.repeat(-(-len(rows) // len(some)))[: len(rows)]


def guards_of(config: PreferenceConfig) -> list[Guard]:
    limit, remedy = config.max_chosen_drop_nats, "raise beta or nll_weight, or lower the learning rate"
    return [Guard("chosen_drop_nats", limit, remedy)] if limit else []
