"""A preference that a program can state exactly, so that what training gained can be measured without people.

The gold score of an answer rewards giving reasons and punishes repeating oneself and never ending. No training stage
ever sees it: it only writes the labels, and a share of those is turned around.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

_REASONS = """
because therefore thus hence since so reason reasons if then would should could must cause causes example evidence fact
facts shows show mean means lead leads result results argument prove proves however although
"""
REASONS = frozenset(_REASONS.split())
WORD = re.compile(r"[a-z']+")


class Sample(NamedTuple):
    text: str
    ended: bool  # by an end-of-text token, not by the length limit


def gold_score(sample: Sample) -> float:
    """8 times the share of reason-giving words, less 4 times the share of repeated three-word runs, less 0.5 without
    an end; clipped to -2..2. An empty answer scores -2."""
    words = WORD.findall(sample.text.lower())
    if not words:
        return -2.0
    share = sum(word in REASONS for word in words) / len(words)
    score = 8 * share - 4 * repetition(words) - (0.0 if sample.ended else 0.5)
    return float(np.clip(score, -2, 2))


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
