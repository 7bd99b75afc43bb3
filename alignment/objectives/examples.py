"""What the stage `reward` learns from: comparisons as examples, each with its texts and what was said of them."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from transformers import PreTrainedTokenizerBase

from alignment.config import COST, REWARD, JobError, Labels, RewardConfig
from alignment.data.judgments import EQUAL, read_votes, read_weights
from alignment.data.labels import (
    Judged,
    Label,
    Ranking,
    Safety,
    Said,
    said_by_pairs,
    said_by_rankings,
    said_by_ties,
    said_by_votes,
    said_of_safety,
)
from alignment.data.pairs import part_groups, read_pairs
from alignment.data.text import encode_completion, encode_prompt
from alignment.mitigation.annotators import Votes
from alignment.mitigation.changes import augmented, balanced, grouped, numbered
from alignment.models.heads import columns_of, head_names, plain_names

HELD_OUT = 96  # comparisons measured here; the full figure is the stage `evaluate`'s
VALIDATION_SHARE = 0.05  # of the training comparisons, by groups: they choose the best weights, as test ones must not
Heads = dict[str, list[int]]  # the columns of each head, several for an ensemble


class Example(NamedTuple):
    """One comparison, all of it in one batch: each text is scored once, however much was said of it."""

    texts: tuple[list[int], ...]  # prompt and completion with its end token
    lengths: tuple[int, ...]  # tokens of the completions
    labels: tuple[Label, ...]
    rankings: tuple[Ranking, ...]
    safety: tuple[Safety, ...]
    group: str

    @property
    def tokens(self) -> int:
        return max(map(len, self.texts))


class RewardData(NamedTuple):
    train: list[Example]
    validation: list[Example]  # decisive labels of training groups set aside, which choose the best weights
    held_out: list[Example]  # a fixed part of the test comparisons, measured once at the end
    comparisons: list[Judged]  # those of train
    dropped: int  # labels with a text longer than max_length, left out of train
    annotators: list[str]  # by the numbers that votes give them; empty where they are not weighed
    votes: Votes  # on the numbered labels of train


def read_data(tokenizer: PreTrainedTokenizerBase, snapshot: Path, config: RewardConfig, seed: int) -> RewardData:
    """Everything the stage reads from the snapshot, encoded. Raises JobError where nothing can be learned."""
    names = head_names(config.heads)
    heads = {name: columns_of(names, name) for name in plain_names(names)}
    single = {name: [number] for number, name in enumerate(heads)}
    _, aside = part_groups(read_decided(snapshot, "train", config), share=VALIDATION_SHARE, most=HELD_OUT)
    unseen = {comparison.group for comparison in aside}
    how = config.mitigation
    comparisons = [comparison for comparison in read_said(snapshot, config) if comparison.group not in unseen]
    comparisons = grouped(comparisons, how.groups_file)
    annotators, votes = numbered(comparisons, read_votes(snapshot, "train") if how.annotators else [])
    learnt = augmented(comparisons) if how.augment else comparisons
    train, dropped = encode(tokenizer, learnt, config.max_length, heads, seed)
    train = balanced(train) if how.group_balance else train
    require_examples(train, heads, snapshot, config.max_length)
    validation, _ = encode(tokenizer, aside, config.max_length, single)
    test = spread(read_decided(snapshot, "test", config), HELD_OUT)
    held_out, _ = encode(tokenizer, test, config.max_length, single)
    return RewardData(train, validation, held_out, comparisons, dropped, annotators, votes)


def require_examples(train: Sequence[Example], heads: Heads, snapshot: Path, max_length: int) -> None:
    """Raises JobError for a head that would learn nothing."""
    for name, columns in heads.items():
        if name == COST:
            found, what = any(example.safety for example in train), "training text with a safety label"
        else:
            found = any(label.head in columns and label.decisive for example in train for label in example.labels)
            what = "training pair" if name == REWARD else f"training pair that {name!r} orders"
        if not found:
            limit = f"of at most {max_length} tokens"
            raise JobError(f"{snapshot} has no {what} {limit}; freeze more judgments or raise max_length")


def read_decided(snapshot: Path, split: str, config: RewardConfig) -> list[Judged]:
    """What the heads are measured by: labels of majorities, without ties, and the safety of texts."""
    heads, plain = config.heads, Labels()
    said = list(said_by_pairs(read_pairs(snapshot, split), EQUAL)) if heads.ensemble else []
    votes = read_votes(snapshot, split) if heads.criteria or heads.safety else []
    for criterion in heads.criteria:
        said += said_by_votes(votes, criterion, plain, 0.0, EQUAL)
    return gather([*said, *(said_of_safety(votes, EQUAL) if heads.safety else [])])


def read_said(snapshot: Path, config: RewardConfig) -> list[Judged]:
    """What the heads learn from. Raises JobError."""
    heads, how, weights = config.heads, config.labels, read_weights(config.labels.weights_file)
    by_votes = how.source == "votes" or how.ranking == "plackett_luce"
    if weights.annotators and heads.ensemble and not by_votes:
        raise JobError(f"{how.weights_file} weighs annotators, but a majority names none; set labels.source to votes")
    asked = by_votes or heads.criteria or heads.safety or config.tie_weight
    votes = read_votes(snapshot, "train") if asked else []
    ordered = [*([REWARD] if heads.ensemble and by_votes else []), *heads.criteria]
    said: list[Said] = []
    if heads.ensemble and not by_votes:
        pairs = read_pairs(snapshot, "train")
        said += said_by_pairs(pairs, weights)
        said += said_by_ties(votes, pairs, config.tie_weight, weights) if config.tie_weight else []
    if how.ranking == "plackett_luce":
        said += (one for head in ordered for one in said_by_rankings(votes, head, weights))
        how = replace(how, source="votes")
    said += (one for head in ordered for one in said_by_votes(votes, head, how, config.tie_weight, weights))
    return gather([*said, *(said_of_safety(votes, weights) if heads.safety else [])])


def gather(said: Iterable[Said]) -> list[Judged]:
    """All that was said of a comparison together. What has no weight is left out.

    The six pairs of one ranking of four completions are one person's one judgment, so they weigh as one together; else
    a reward model overfits them (Ouyang et al. 2022, arXiv:2203.02155, section 3.5).
    """
    found: dict[tuple[str, str], Judged] = {}
    for number, one in enumerate(one for one in said if one.what.weight):
        name = f"row {number}" if one.comparison is None else str(one.comparison)
        judged = found.setdefault((name, json.dumps(one.prompt)), Judged(name, one.prompt, one.group))
        judged.said.append(one.what.moved([judged.place(text) for text in one.texts]))
    for judged in found.values():
        pairs = Counter(one.head for one in judged.said if isinstance(one, Label))
        judged.said = [
            one._replace(weight=one.weight / pairs[one.head]) if isinstance(one, Label) else one for one in judged.said
        ]
    return list(found.values())


def spread(rows: Sequence, most: int) -> list:
    """At most so many of the rows, evenly spaced."""
    return [rows[i] for i in np.linspace(0, len(rows) - 1, min(len(rows), most)).astype(int)]


def encode(
    tokenizer: PreTrainedTokenizerBase,
    comparisons: Iterable[Judged],
    max_length: int,
    heads: Heads,
    seed: int | None = None,
) -> tuple[list[Example], int]:
    """The comparisons as ids, and how many labels were left out because one of their texts does not fit.

    With a seed, every member of an ensemble learns from its own bootstrap of the comparisons.
    """
    examples, dropped = [], 0
    for comparison in comparisons:
        prompt = encode_prompt(tokenizer, comparison.prompt)
        answers = [encode_completion(tokenizer, comparison.prompt, text) for text in comparison.texts]
        fit = [place for place, answer in enumerate(answers) if len(answer) < max_length]
        said = [one for given in comparison.said for one in fitting(given, fit)]
        dropped += sum(isinstance(one, Label) for one in comparison.said) - sum(isinstance(one, Label) for one in said)
        learnt = [one for given in said for one in for_heads(given, heads, comparison.name, seed)]
        if learnt:
            examples.append(example_of(prompt, [answers[place] for place in fit], learnt, comparison.group, max_length))
    return examples, dropped


def fitting(said: Label | Ranking | Safety, fit: Sequence[int]) -> Iterator[Label | Ranking | Safety]:
    """What remains to be said of the texts that fit, by their places among those."""
    places: dict[int, Any] = {old: new for new, old in enumerate(fit)}
    if isinstance(said, Ranking):
        tiers = [kept for tier in said.tiers if (kept := [place for place in tier if place in places])]
        if sum(map(len, tiers)) > 1:
            yield said._replace(tiers=tiers).moved(places)
    elif all(place in places for place in ([said.place] if isinstance(said, Safety) else [said.first, said.second])):
        yield said.moved(places)


def for_heads(
    said: Label | Ranking | Safety, heads: Heads, name: str, seed: int | None
) -> Iterator[Label | Ranking | Safety]:
    """The same for every column of its head, with the weight that the column's bootstrap gives the comparison."""
    columns = heads[said.head]
    for column in columns:
        times = 1 if seed is None or len(columns) == 1 else bootstrap(seed, column, name)
        if times:
            yield said._replace(head=column, weight=said.weight * times)


def bootstrap(seed: int, head: int, name: str) -> int:
    """How often a member of an ensemble draws this comparison: a pure function of the three, Poisson with mean 1.

    Source: Oza & Russell 2001, "Online bagging and boosting": the bootstrap's counts, each drawn by itself.
    """
    number = int.from_bytes(hashlib.sha256(name.encode()).digest()[:8])
    return int(np.random.default_rng([seed, head, number]).poisson(1.0))


def example_of(
    prompt: list[int], answers: list[list[int]], said: list[Label | Ranking | Safety], group: str, max_length: int
) -> Example:
    """The same end of the prompt before every answer: a comparison is never cut on one side only."""
    head = prompt[max(0, len(prompt) - (max_length - max(map(len, answers)))) :]
    kinds = (tuple(one for one in said if isinstance(one, kind)) for kind in (Label, Ranking, Safety))
    return Example(tuple([*head, *answer] for answer in answers), tuple(map(len, answers)), *kinds, group)
