"""The files that the proof's stages read: text, dialogues, prompts and labeled pairs."""

from __future__ import annotations

import gzip
import json
import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from alignment.config import Input
from benchmarks._gold import Labeled, Sample
from benchmarks._stages import DEMO, freeze_pairs, write_jsonl

SENTENCE = re.compile(r"(?<=[.!?])\s+")
SHORTEST, LONGEST = 12, 28  # words of an answer to learn from: it must fit into what is sampled


def write_language(work: Path) -> tuple[Path, Path]:
    """(text, dialogues): the demo's arguments as plain text, and sentences of them as answers to their debates."""
    with gzip.open(DEMO / "arguments.jsonl.gz", "rt", encoding="utf-8") as stream:
        rows = [row for row in map(json.loads, stream) if "text" in row]
    debates = json.loads((DEMO / "debates.json").read_text())
    text, dialogues = work / "arguments.txt", work / "dialogues.jsonl"
    text.write_text("\n\n".join(row["text"].replace("\n\n", "\n") for row in rows))
    pieces = [(debates[row["stance"]]["prompt"], piece) for row in rows for piece in pieces_of(row["text"])]
    write_jsonl(dialogues, [{"prompt": prompt, "completion": piece} for prompt, piece in pieces])
    return text, dialogues


def pieces_of(text: str) -> list[str]:
    """Neighbouring sentences joined up to 12 words or more; what is longer than 28 words is left out."""
    pieces, open_piece = [], ""
    for sentence in SENTENCE.split(" ".join(text.split())):
        open_piece = f"{open_piece} {sentence}".strip()
        if len(open_piece.split()) >= SHORTEST:
            pieces, open_piece = [*pieces, open_piece], ""
    return [piece for piece in pieces if len(piece.split()) <= LONGEST]


def read_topics(path: str | Path) -> list[str]:
    return [line.strip() for line in Path(path).read_text().splitlines() if line.strip()]


def write_prompts(path: Path, topics: Sequence[str]) -> Path:
    write_jsonl(path, [{"id": topic, "messages": [{"role": "user", "content": topic}]} for topic in topics])
    return path


def write_snapshot(directory: Path, train: Iterable[Labeled], test: Iterable[Labeled]) -> Input:
    """The labeled pairs as the frozen snapshot that every training stage reads."""
    return freeze_pairs(directory, *([as_pair(row, n) for n, row in enumerate(rows)] for rows in (train, test)))


def as_pair(row: Labeled, number: int) -> dict[str, Any]:
    """A row of a pairs file; its comparison is the row's number, by which the gold order is found again."""
    return {
        "prompt": [{"role": "user", "content": row.prompt}],
        "chosen": [{"role": "assistant", "content": row.chosen.text}],
        "rejected": [{"role": "assistant", "content": row.rejected.text}],
        "margin": 0.0,
        "group": row.prompt,
        "comparison": number,
    }


def neighbours(rows: Sequence[dict[str, Any]]) -> list[tuple[str, Sample, Sample]]:
    """Samples of one prompt two by two, each in one comparison. The prompts' ids are their texts."""
    return [(a["id"], Sample(a["text"]), Sample(b["text"])) for a, b in zip(rows[::2], rows[1::2], strict=True)]
