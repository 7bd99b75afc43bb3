"""A preference that a program can state exactly, so that what training gained can be measured without people.

The gold score of an answer rewards the words of an argument that gives reasons, and punishes repeating oneself. No
training stage ever sees it: it only writes the labels, and a share of those is turned around.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

_REASONS = """
because since so therefore thus hence then if when while although though but however yet can could may might must shall
should will would need reason reasons cause causes means example fact evidence prove show
"""
REASONS = frozenset(_REASONS.split())
WORD = re.compile(r"[a-z']+")
WORDS_NEEDED = 12  # a shorter answer counts as if it had this many, so that one lucky word does not win


class Sample(NamedTuple):
    """One answer of a policy."""

    text: str


def gold_score(sample: Sample) -> float:
    """10 times the share of reason-giving words, less 4 times the share of repeated three-word runs; -2 to 2."""
    words = WORD.findall(sample.text.lower())
    if not words:
        return -2.0
    share = sum(word in REASONS for word in words) / max(len(words), WORDS_NEEDED)
    return float(np.clip(10 * share - 4 * repetition(words), -2, 2))


def repetition(words: Sequence[str]) -> float:
    """Share of three-word runs that occurred before in the same text, 0 to 1; single words for shorter texts."""
    runs = list(zip(words, words[1:], words[2:], strict=False)) or list(words)
    return 1 - len(set(runs)) / len(runs)


class Labeled(NamedTuple):
    """One comparison: the samples in the order the noisy label gives, and whether the label is the gold's own."""

    prompt: str
    chosen: Sample
    rejected: Sample
    clean: bool


def label(
    comparisons: Sequence[tuple[str, Sample, Sample]], *, noise: float, generator: np.random.Generator
) -> list[Labeled]:
    """Order every pair by gold and turn a share of the labels around at random. Pairs of equal gold are left out."""
    labeled = []
    for prompt, first, second in comparisons:
        difference = gold_score(first) - gold_score(second)
        if difference == 0:
            continue
        better, worse = (first, second) if difference > 0 else (second, first)
        clean = bool(generator.random() >= noise)
        labeled.append(Labeled(prompt, *((better, worse) if clean else (worse, better)), clean))
    return labeled


def shuffle_labels(labeled: Sequence[Labeled], generator: np.random.Generator) -> list[Labeled]:
    """Every label replaced by a coin toss: what is left to learn is nothing."""
    return [
        Labeled(row.prompt, row.rejected, row.chosen, not row.clean) if generator.random() < 0.5 else row
        for row in labeled
    ]
