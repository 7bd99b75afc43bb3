"""What the stage `reward` learns from: comparisons as examples, each with its texts and what was said of them."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from transformers import PreTrainedTokenizerBase

from alignment.config import JobError, RewardConfig
from alignment.counterfactual import TRAIN_TEMPLATES, swap, template_texts
from alignment.pairs import Pair, part_groups, read_pairs, read_ties
from alignment.scores import Unit, encode_text_row
from alignment.text import Messages, encode_completion, encode_prompt

HELD_OUT = 96  # comparisons measured here; the full figure is the stage `evaluate`'s
VALIDATION_SHARE = 0.05  # of the training comparisons, by groups: they choose the best weights, as test ones must not

WIN, DEFEAT, TIE = (1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (0.0, 0.0, 1.0)


class Label(NamedTuple):
    """What was said of two texts of a comparison, to one head."""

    first: int  # their places among its texts
    second: int
    outcomes: tuple[float, float, float]  # shares: the first wins, the second wins, a tie
    margin: float  # 0 (unknown or weakest) to 1
    weight: float
    head: int = 0

    @property
    def decisive(self) -> bool:
        return self.outcomes[0] != self.outcomes[1]


class Example(NamedTuple):
    """One comparison, all of it in one batch: each text is scored once, however many labels name it."""

    texts: tuple[list[int], ...]  # prompt and completion with its end token
    lengths: tuple[int, ...]  # tokens of the completions
    labels: tuple[Label, ...]

    @property
    def tokens(self) -> int:
        return max(map(len, self.texts))


@dataclass
class Judged:
    """A comparison before it is tokenised."""

    prompt: Messages
    group: str
    texts: list[Messages] = field(default_factory=list)
    labels: list[Label] = field(default_factory=list)

    def place(self, text: Messages) -> int:
        if text not in self.texts:
            self.texts.append(text)
        return self.texts.index(text)

    def add(self, pair: Pair, outcomes: tuple[float, float, float], weight: float) -> None:
        first, second = self.place(pair.chosen), self.place(pair.rejected)
        self.labels.append(Label(first, second, outcomes, pair.margin, weight))


class RewardData(NamedTuple):
    train: list[Example]
    validation: list[Example]  # decisive labels of training groups set aside, which choose the best weights
    held_out: list[Example]  # a fixed part of the test comparisons, measured once at the end
    natural: list[Unit]
    templates: list[Unit]
    dropped: int  # labels with a text longer than max_length, left out of train


def read_data(tokenizer: PreTrainedTokenizerBase, snapshot: Path, config: RewardConfig) -> RewardData:
    """Everything the stage reads from the snapshot, encoded. Raises JobError where nothing can be learned."""
    decided = judged(read_pairs(snapshot, "train"))
    _, aside = part_groups(decided, share=VALIDATION_SHARE, most=HELD_OUT)
    unseen = {comparison.group for comparison in aside}
    ties = read_ties(snapshot, "train") if config.tie_weight else []
    training = [c for c in judged([*read_pairs(snapshot, "train"), *ties], config.tie_weight) if c.group not in unseen]
    train, dropped = encode(tokenizer, training, config.max_length)
    if not any(label.decisive for example in train for label in example.labels):
        limit = f"{config.max_length} tokens"
        raise JobError(f"{snapshot} has no training pair of at most {limit}; freeze more judgments or raise max_length")
    validation, _ = encode(tokenizer, aside, config.max_length)
    held_out, _ = encode(tokenizer, spread(judged(read_pairs(snapshot, "test")), HELD_OUT), config.max_length)
    pool = counterfactual_pool(tokenizer, training, config.max_length) if config.counterfactual_weight else ([], [])
    return RewardData(train, validation, held_out, *pool, dropped=dropped)


def spread(rows: Sequence, most: int) -> list:
    """At most so many of the rows, evenly spaced."""
    return [rows[i] for i in np.linspace(0, len(rows) - 1, min(len(rows), most)).astype(int)]


def judged(pairs: Iterable[Pair], tie_weight: float = 0.0) -> list[Judged]:
    """The pairs by comparison.

    Six pairs of one ranking of four completions are one person's one judgment, so they weigh as one together; else a
    reward model overfits them (Ouyang et al. 2022, arXiv:2203.02155, section 3.5).
    """
    by_comparison: dict[Any, list[Pair]] = {}
    for number, pair in enumerate(pairs):
        key = number if pair.comparison is None else (pair.comparison, json.dumps(pair.prompt))
        by_comparison.setdefault(key, []).append(pair)
    found = []
    for together in by_comparison.values():
        comparison = Judged(together[0].prompt, together[0].group)
        for pair in together:
            weight = (tie_weight if pair.tie else 1.0) / len(together)
            comparison.add(pair, TIE if pair.tie else WIN, weight)
        found.append(comparison)
    return found


def encode(
    tokenizer: PreTrainedTokenizerBase, comparisons: Iterable[Judged], max_length: int
) -> tuple[list[Example], int]:
    """The comparisons as ids, and how many labels were left out because one of their texts does not fit."""
    examples, dropped = [], 0
    for comparison in comparisons:
        prompt = encode_prompt(tokenizer, comparison.prompt)
        answers = [encode_completion(tokenizer, comparison.prompt, text) for text in comparison.texts]
        fit = [place for place, answer in enumerate(answers) if len(answer) < max_length]
        kept = [label for label in comparison.labels if label.first in fit and label.second in fit]
        dropped += len(comparison.labels) - len(kept)
        if kept:
            examples.append(_example(prompt, [answers[place] for place in fit], fit, kept, max_length))
    return examples, dropped


def _example(
    prompt: list[int], answers: list[list[int]], places: list[int], labels: list[Label], max_length: int
) -> Example:
    """The same end of the prompt before every answer: a comparison is never cut on one side only."""
    head = prompt[max(0, len(prompt) - (max_length - max(map(len, answers)))) :]
    moved = {old: new for new, old in enumerate(places)}
    return Example(
        texts=tuple([*head, *answer] for answer in answers),
        lengths=tuple(map(len, answers)),
        labels=tuple(label._replace(first=moved[label.first], second=moved[label.second]) for label in labels),
    )


def counterfactual_pool(
    tokenizer: PreTrainedTokenizerBase, comparisons: Sequence[Judged], max_length: int
) -> tuple[list[Unit], list[Unit]]:
    """(natural, templates): texts of the training pairs that the swap changes, and the training templates."""
    texts = {
        (_key(comparison.prompt), text[-1]["content"]): comparison.prompt
        for comparison in comparisons
        for text in comparison.texts
    }
    natural = [_counterfactual(tokenizer, prompt, text, max_length) for (_, text), prompt in texts.items()]
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
