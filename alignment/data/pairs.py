"""A snapshot's decisive pairs, and their token ids."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from transformers import PreTrainedTokenizerBase

from alignment.config import JobError
from alignment.data.rows import read_jsonl
from alignment.data.text import Messages, as_messages, encode_completion, encode_prompt, truncate_pair

FEWEST_SET_ASIDE = 8


class Pair(NamedTuple):
    """One comparison of two completions, as its majority has it."""

    prompt: Messages
    chosen: Messages
    rejected: Messages
    margin: float  # 0 (unknown or weakest) to 1
    group: str  # rows of one group never stand on both sides of a split
    comparison: Any


class EncodedPair(NamedTuple):
    prompt: list[int]
    chosen: list[int]  # with the end token
    rejected: list[int]
    margin: float
    weight: float = 1.0  # 1 over the pairs that the same comparison yields, times the comparison's own weight
    group: str = ""

    @property
    def tokens(self) -> int:
        """Width of the longer of the two rows that this pair fills."""
        return len(self.prompt) + max(len(self.chosen), len(self.rejected))

    @property
    def packed_tokens(self) -> int:
        """Of both rows, which share their prompt."""
        return len(self.prompt) + len(self.chosen) + len(self.rejected)


def read_pairs(snapshot: str | Path, split: str) -> list[Pair]:
    """The decisive pairs of a split, "train" or "test". Raises JobError naming file and line."""
    path = Path(snapshot) / f"pairs-{split}.jsonl"
    return [_pair(row, path, number) for number, row in read_jsonl(path, "pairs")]


def _pair(row: dict, path: Path, number: int) -> Pair:
    try:
        return Pair(
            prompt=as_messages(row["prompt"], "user"),
            chosen=as_messages(row["chosen"], "assistant"),
            rejected=as_messages(row["rejected"], "assistant"),
            margin=float(row.get("margin") or 0.0),
            group=str(row.get("group", number)),
            comparison=row.get("comparison"),
        )
    except (KeyError, TypeError, ValueError) as error:
        raise JobError(f"{path} line {number} is no preference row: {error!r}") from error


def part_groups(pairs: Sequence[Pair], *, share: float, most: int) -> tuple[list[Pair], list[Pair]]:
    """(kept, set aside): whole groups are set aside, about `share` of the pairs and at most `most`.

    A pure function of the groups' names, so every arm and every resumed run sets the same ones aside. Few pairs in
    few groups set none aside: a handful could not tell two checkpoints apart.
    """
    sizes = Counter(pair.group for pair in pairs)
    wanted, chosen, room = share * len(pairs), set(), min(most, 2 * share * len(pairs))
    for group in sorted(sizes, key=lambda name: hashlib.sha256(name.encode()).digest()):
        taken = sum(sizes[name] for name in chosen)
        if taken < wanted and taken + sizes[group] <= room:
            chosen.add(group)
    if sum(sizes[name] for name in chosen) < FEWEST_SET_ASIDE:
        chosen = set()
    return [p for p in pairs if p.group not in chosen], [p for p in pairs if p.group in chosen]


def encode_pairs(
    tokenizer: PreTrainedTokenizerBase,
    pairs: Sequence[Pair],
    max_length: int,
    weight_of: Callable[[Any], float] = lambda comparison: 1.0,
) -> tuple[list[EncodedPair], list[Pair]]:
    """The pairs that fit and those that do not: a pair is never cut on one side only. Raises JobError.

    Six pairs of one ranking of four completions are one person's one judgment, so they weigh as one together; else a
    reward model overfits them (Ouyang et al. 2022, arXiv:2203.02155, section 3.5).
    """
    encoded, dropped, counts = [], [], Counter(pair.comparison for pair in pairs)
    for pair in pairs:
        fitting = truncate_pair(
            encode_prompt(tokenizer, pair.prompt),
            encode_completion(tokenizer, pair.prompt, pair.chosen),
            encode_completion(tokenizer, pair.prompt, pair.rejected),
            max_length,
        )
        if fitting is None:
            dropped.append(pair)
        else:
            share = 1.0 if pair.comparison is None else 1 / counts[pair.comparison]
            weight = share * weight_of(pair.comparison)
            encoded.append(EncodedPair(*fitting, margin=pair.margin, weight=weight, group=pair.group))
    return encoded, dropped
