"""KTO: completions that are desirable or not, one at a time; from judgments to a gradient.

Each example carries a completion of another prompt. Under the example's prompt it says how far the policy has moved
at large, and that is the baseline which a gain or a loss is felt against.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path
from statistics import fmean
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from alignment import devices
from alignment.config import JobError, PreferenceConfig
from alignment.config.preferences import Unpaired
from alignment.data.judgments import EQUAL, Judgment, Weights, read_votes
from alignment.data.pairs import Pair, read_pairs
from alignment.data.rows import read_jsonl
from alignment.data.text import Messages, as_messages, encode_completion, encode_prompt
from alignment.losses.preference import implicit_reward, kahneman_tversky, reference_point
from alignment.models.sequences import Passes, Row, frozen_logprobs, sequence_logprobs


class Labeled(NamedTuple):
    """A completion and whether it is desirable, as text."""

    prompt: Messages
    completion: str
    desirable: bool
    weight: float
    group: str


class Example(NamedTuple):
    """The same as token ids, with the completion of another prompt that serves the baseline."""

    prompt: list[int]
    completion: list[int]  # with the end token
    other: list[int]
    desirable: bool
    weight: float

    @property
    def tokens(self) -> int:
        """Width of the longer of the two rows that this example fills."""
        return len(self.prompt) + max(len(self.completion), len(self.other))


def read_labeled(snapshot: Path, config: PreferenceConfig, weights: Weights = EQUAL) -> list[Labeled]:
    """Every labeled completion of the training split that the config asks for. Raises JobError."""
    sources = config.unpaired
    found = from_pairs(read_pairs(snapshot, "train"), weights) if sources.pairs else []
    if sources.both_bad or sources.criterion:
        found += from_judgments(snapshot, sources, weights)
    found += from_rows(config.rows) if config.rows else []
    return [one for one in found if one.weight > 0]


def from_pairs(pairs: Sequence[Pair], weights: Weights = EQUAL) -> list[Labeled]:
    """Chosen completions are desirable, rejected ones are not.

    A completion in the middle of a ranking is both, as often as it won and lost; the pairs of a ranking weigh one
    together.
    """
    sizes, sums, kept = Counter(pair.comparison for pair in pairs), defaultdict(float), {}
    for number, pair in enumerate(pairs):
        alone = pair.comparison is None
        for side, desirable in ((pair.chosen, True), (pair.rejected, False)):
            key = (f"row {number}" if alone else pair.comparison, side[-1]["content"], desirable)
            kept.setdefault(key, pair)
            sums[key] += 1.0 if alone else weights.of_comparison(pair.comparison) / sizes[pair.comparison]
    return [
        Labeled(pair.prompt, text, desirable, sums[name, text, desirable], pair.group)
        for (name, text, desirable), pair in kept.items()
    ]


def from_judgments(snapshot: Path, sources: Unpaired, weights: Weights = EQUAL) -> list[Labeled]:
    """What votes say of a completion by itself: ratings of one criterion, and that all of a comparison are bad."""
    return [
        labeled._replace(weight=weights.of_comparison(votes[0].comparison))
        for votes in read_votes(snapshot, "train")
        for labeled in _absolute(votes, sources)
    ]


def _absolute(votes: Sequence[Judgment], sources: Unpaired) -> Iterator[Labeled]:
    """The labels of one comparison's completions."""
    first = votes[0]
    all_bad = sources.both_bad and 2 * sum(vote.both_bad for vote in votes) > len(votes)
    for text in dict.fromkeys(text for vote in votes for text in vote.texts):
        desirable = False if all_bad else _rated(votes, text, sources)
        if desirable is not None:
            yield Labeled(first.prompt, text, desirable, 1.0, first.group)


def _rated(votes: Sequence[Judgment], text: str, sources: Unpaired) -> bool | None:
    """Whether the mean rating is good or bad; None between the two, and without a rating."""
    pairs = [pair for vote in votes for pair in zip(vote.texts, vote.ratings.get(sources.criterion, []), strict=False)]
    given = [rating for rated, rating in pairs if rated == text and rating is not None]
    mean = fmean(given) if given else None
    if mean is None or sources.undesirable_to < mean < sources.desirable_from:
        return None
    return mean >= sources.desirable_from


def from_rows(path: str) -> list[Labeled]:
    """The rows of a file in the unpaired format. Raises JobError naming the line."""
    found = []
    for number, row in read_jsonl(path, "labeled completions"):
        if not isinstance(row.get("label"), bool) or not {"prompt", "completion"} <= set(row):
            raise JobError(f'{path} line {number}: a row has "prompt", "completion" and "label", true or false')
        text = as_messages(row["completion"], "assistant")[-1]["content"]
        prompt = as_messages(row["prompt"], "user")
        found.append(Labeled(prompt, text, row["label"], float(row.get("weight", 1.0)), str(row.get("group", number))))
    return found


def encode_examples(
    tokenizer: PreTrainedTokenizerBase, labeled: Sequence[Labeled], sources: Unpaired, *, max_length: int, seed: int
) -> tuple[list[Example], int]:
    """The examples that fit, and how many did not. Raises JobError where all are of one prompt.

    A judged completion is never cut: it would be another one than the one that was judged.
    """
    rows = [
        Row(encode_prompt(tokenizer, one.prompt), encode_completion(tokenizer, one.prompt, one.completion))
        for one in labeled
    ]
    fitting = [i for i, row in enumerate(rows) if len(row.completion) < max_length]
    partners = mismatched([rows[i].prompt for i in fitting], seed)
    sides, examples = {True: sources.desirable_weight, False: sources.undesirable_weight}, []
    for i, partner in zip(fitting, partners, strict=True):
        desirable, (prompt, completion) = labeled[i].desirable, rows[i]
        prompt = prompt[-(max_length - len(completion)) :]
        other = rows[fitting[partner]].completion[: max_length - len(prompt)]
        examples.append(Example(prompt, completion, other, desirable, labeled[i].weight * sides[desirable]))
    return examples, len(rows) - len(fitting)


def prompt_count(labeled: Sequence[Labeled]) -> int:
    return len({str(one.prompt) for one in labeled})


def mismatched(prompts: Sequence[Sequence[int]], seed: int) -> list[int]:
    """For each prompt the number of another one, whose completion goes with it: a pure function of the seed.

    Fixed for the whole run, so that the reference's log-probabilities can be computed once. Raises JobError.
    """
    if prompts and all(prompt == prompts[0] for prompt in prompts):
        raise JobError("kto needs completions of two prompts at least: its baseline comes from mismatched ones")
    order = np.random.default_rng([seed, 2]).permutation(len(prompts)).tolist()
    partners = [0] * len(prompts)
    for place, i in enumerate(order):
        earlier = (order[place - back] for back in range(1, len(order)))
        partners[i] = next(j for j in earlier if prompts[j] != prompts[i])
    return partners


def rows_of(examples: Sequence[Example]) -> list[Row]:
    """2B rows: each example's own completion, and the mismatched one."""
    return [Row(e.prompt, ids) for e in examples for ids in (e.completion, e.other)]


def accumulate(
    model: PreTrainedModel,
    examples: Sequence[Example],
    reference: Tensor,
    weights: Tensor,
    config: PreferenceConfig,
    passes: Passes,
) -> dict[str, float]:
    """Add the gradient of the weighted mean loss of B examples with weights (B,); returns the step's figures.

    Args:
        reference: log-probabilities (B, 2) in nats of each example's own completion and of the mismatched one.

    The baseline is the whole step's, so how the examples are cut into passes changes nothing.
    """
    baseline = baseline_of(model, examples, reference[:, 1], passes)
    policy, losses = torch.zeros(len(examples), device=model.device), 0.0
    shares = (weights / weights.sum()).to(model.device)
    desirable = torch.tensor([e.desirable for e in examples], device=model.device)
    for group, counts in devices.deal([e.tokens for e in examples], range(len(examples)), passes.tokens):
        logprobs = sequence_logprobs(model, [Row(examples[i].prompt, examples[i].completion) for i in group], passes)
        ratio = logprobs - reference[group, 0]
        loss = (kahneman_tversky(ratio, desirable[group], baseline, beta=config.beta) * shares[group]).sum() * counts
        loss.backward()
        policy[group] += logprobs.detach() * counts
        losses += loss.item()
    devices.summed(policy)
    return {"loss": devices.summed_number(losses), **figures(policy, reference[:, 0], desirable, baseline, config)}


@torch.no_grad()
def baseline_of(
    model: PreTrainedModel, examples: Sequence[Example], reference: Tensor, passes: Passes
) -> Tensor:
    """The reference point of a step: a scalar in nats, from the log-ratios of the mismatched completions."""
    found = frozen_logprobs(model, [Row(e.prompt, e.other) for e in examples], passes)
    return reference_point(found - reference)


def figures(
    policy: Tensor, reference: Tensor, desirable: Tensor, baseline: Tensor, config: PreferenceConfig
) -> dict[str, float]:
    """How a batch stands. Figures of a side are left out where the batch has no completion of it.

    Returns:
        accuracy: share of completions whose log-ratio stands on the right side of the baseline, 0 to 1.
        baseline_nats: what a log-ratio is measured against.
        desirable_reward, undesirable_reward: mean implicit rewards; margin is their difference.
        desirable_logp_nats, undesirable_logp_nats: mean log-probabilities of completions.
    """
    ratio, rewards = policy - reference, implicit_reward(policy, reference, beta=config.beta)
    gains = torch.where(desirable, ratio - baseline, baseline - ratio)
    found = {
        "accuracy": ((gains.sign() + 1) / 2).mean(),
        "baseline_nats": baseline,
        "log_ratio_nats": ratio.mean(),
    }
    for name, side in (("desirable", desirable), ("undesirable", ~desirable)):
        if side.any():
            found |= {f"{name}_reward": rewards[side].mean(), f"{name}_logp_nats": policy[side].mean()}
    if desirable.any():
        found["chosen_drop_nats"] = -ratio[desirable].mean()
    if {"desirable_reward", "undesirable_reward"} <= set(found):
        found["margin"] = found["desirable_reward"] - found["undesirable_reward"]
    return {name: value.item() for name, value in found.items()}


@torch.no_grad()
def measure(
    model: PreTrainedModel, examples: Sequence[Example], reference: Tensor, config: PreferenceConfig, passes: Passes
) -> dict[str, float]:
    """The loss and the accuracy on held-out examples."""
    policy = frozen_logprobs(model, [Row(e.prompt, e.completion) for e in examples], passes)
    desirable = torch.tensor([e.desirable for e in examples], device=model.device)
    baseline = baseline_of(model, examples, reference[:, 1], passes)
    losses = kahneman_tversky(policy - reference[:, 0], desirable, baseline, beta=config.beta)
    found = figures(policy, reference[:, 0], desirable, baseline, config)
    return {"validation_loss": losses.mean().item(), "validation_accuracy": found["accuracy"]}
