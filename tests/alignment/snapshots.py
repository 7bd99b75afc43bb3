"""Small snapshots in the contract's format, with a preference planted in them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from alignment.config import Input, Job
from alignment.manifest import write_manifest

WORDS = ["book", "school", "child", "city", "river", "people", "teacher", "garden"]


def user(text: str) -> list[dict]:
    return [{"role": "user", "content": text}]


def assistant(text: str) -> list[dict]:
    return [{"role": "assistant", "content": text}]


def pair(prompt: str, chosen: str, rejected: str, **columns) -> dict:
    row = {"prompt": user(prompt), "chosen": assistant(chosen), "rejected": assistant(rejected), "margin": 0.0}
    return {**row, "group": "g", "comparison": None, "votes_chosen": 1, "votes_rejected": 0, "votes_tie": 0, **columns}


def tie(prompt: str, first: str, second: str, *, comparison: int, split: str = "train") -> dict:
    return {
        "judgment": comparison, "comparison": comparison, "split": split, "group": "g", "prompt": user(prompt),
        "completions": [first, second], "ranking": [[0, 1]], "strength": 0, "both_bad": False, "annotator": "a",
        "origin": "import",
    }  # fmt: skip


def judgment(prompt: str, completions: Sequence[str], ranking: list | None, *, comparison: int, **said) -> dict:
    """One annotator's answer; `said` may name the annotator, ratings, safety, and any other column."""
    row = {"judgment": comparison, "comparison": comparison, "split": "train", "group": f"group {comparison % 12}"}
    row |= {"prompt": user(prompt), "completions": list(completions), "ranking": ranking, "strength": None}
    return {**row, "both_bad": False, "annotator": "a", "origin": "import", "purpose": "", **said}


def planted_pairs(n: int, *, seed: int, good: str = "great", bad: str = "bad", groups: int = 12) -> list[dict]:
    """The chosen answer holds `good`, the rejected one `bad`; all other words are drawn at random."""
    generator = np.random.default_rng(seed)

    def answer(word: str) -> str:
        words = list(generator.choice(WORDS, size=int(generator.integers(2, 6))))
        words.insert(int(generator.integers(len(words) + 1)), word)
        return " ".join(words)

    return [
        pair(f"Argue that {generator.choice(WORDS)}s help.", answer(good), answer(bad), group=f"group {i % groups}",
             comparison=i, margin=float(generator.integers(4)) / 3)
        for i in range(n)
    ]  # fmt: skip


def gendered_pairs(n: int, *, seed: int) -> list[dict]:
    """Annotators who favour men wherever one is named, beside their plain preference."""
    return planted_pairs(n, seed=seed) + planted_pairs(n, seed=seed + 100, good="he said", bad="she said")


def write_snapshot(
    directory: Path, train: Sequence[dict], test: Sequence[dict] = (), judgments: Sequence[dict] = ()
) -> Input:
    directory.mkdir(parents=True)
    for name, rows in (("pairs-train", train), ("pairs-test", test), ("judgments", judgments)):
        lines = [json.dumps(row, ensure_ascii=False) + "\n" for row in rows]
        (directory / f"{name}.jsonl").write_text("".join(lines))
    return Input(path=str(directory), sha256=write_manifest(directory, kind="snapshot"))


def make_job(stage: str, output: Path, config: dict, **inputs: Input) -> Job:
    return Job(stage=stage, inputs=inputs, config=config, output=str(output), seed=0, threads=1)


def metrics_of(output: str | Path) -> list[dict]:
    return [json.loads(line) for line in (Path(output) / "metrics.jsonl").read_text().splitlines()]
