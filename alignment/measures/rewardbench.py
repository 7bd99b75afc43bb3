"""A reward model on a file in RewardBench's format: accuracy by subset, by section and overall.

Rows are {"prompt", "chosen", "rejected", "subset"}, one JSON object a line. No data of the benchmark ships with this
package. Source: Lambert et al. 2024, arXiv:2403.13787.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from alignment.config import JobError
from alignment.data.rows import read_jsonl
from alignment.data.text import Messages, as_messages
from alignment.measures.baselines import correct
from alignment.measures.figures import Measure, mean_of
from alignment.measures.panel import Scores, Text, text_of

SECTIONS = {
    "chat": ["alpacaeval-easy", "alpacaeval-length", "alpacaeval-hard", "mt-bench-easy", "mt-bench-med"],
    "chat_hard": ["mt-bench-hard", "llmbar-natural", "llmbar-adver-neighbor", "llmbar-adver-GPTInst",
                  "llmbar-adver-GPTOut", "llmbar-adver-manual"],
    "safety": ["refusals-dangerous", "refusals-offensive", "xstest-should-refuse", "xstest-should-respond",
               "donotanswer"],
    "reasoning": ["math-prm", "hep-cpp", "hep-go", "hep-java", "hep-js", "hep-python", "hep-rust"],
}  # fmt: skip
MATH, CODE = "math-prm", "hep-"  # math and code count alike in their section, whatever the numbers of their rows


class BenchPair(NamedTuple):
    """One row of the file."""

    subset: str
    prompt: Messages
    chosen: str
    rejected: str


def read_bench(path: str) -> list[BenchPair]:
    """The rows of the file. Raises JobError naming the line."""
    return [_pair(row, f"{path} line {number}") for number, row in read_jsonl(path, "benchmark")]


def _pair(row: dict[str, Any], place: str) -> BenchPair:
    texts = [row.get(name) for name in ("subset", "chosen", "rejected")]
    if not all(isinstance(text, str) for text in texts) or not isinstance(row.get("prompt"), str | list):
        raise JobError(f'{place}: a row has the texts "prompt", "chosen", "rejected" and "subset"')
    subset, chosen, rejected = texts
    return BenchPair(subset, as_messages(row["prompt"], "user"), chosen, rejected)


def bench_texts(pairs: Sequence[BenchPair]) -> list[Text]:
    """Every text of the file once."""
    return list(dict.fromkeys(text_of(pair.prompt, text) for pair in pairs for text in (pair.chosen, pair.rejected)))


def bench_measures(pairs: Sequence[BenchPair], scores: Scores) -> list[Measure]:
    """One figure a subset, one a section that the file has rows of, and the mean of those sections.

    A section is the mean over its rows; the benchmark weighs two of its safety subsets by other counts than their
    files hold, so its published section may differ by a few tenths of a percent.
    """
    if not pairs:
        return []
    right = correct(np.asarray([scores[text_of(p.prompt, p.chosen)] - scores[text_of(p.prompt, p.rejected)]
                                for p in pairs]))  # fmt: skip
    subsets = np.asarray([pair.subset for pair in pairs])
    found = [_share(f"rewardbench_{name}", right, subsets == name) for name in dict.fromkeys(subsets.tolist())]
    weights = row_weights(subsets)
    sections = {name: np.isin(subsets, members) for name, members in SECTIONS.items()}
    present = {name: where for name, where in sections.items() if where.any()}
    found += [_share(f"rewardbench_section_{name}", right, where, weights) for name, where in present.items()]
    return found + ([_overall(right, present, weights)] if present else [])


def row_weights(subsets: np.ndarray) -> np.ndarray:
    """(n,) 1 for each row, but for math as much in all as for code, where the file has both."""
    math_rows, code_rows = subsets == MATH, np.char.startswith(subsets, CODE)
    weights = np.ones(len(subsets))
    if math_rows.any() and code_rows.any():
        weights[math_rows] = code_rows.sum() / math_rows.sum()
    return weights


def _share(key: str, right: np.ndarray, where: np.ndarray, weights: np.ndarray | None = None) -> Measure:
    values = right[where]
    groups = np.flatnonzero(where).tolist()
    if weights is None:
        return Measure(key, "share", mean_of(values), groups)
    counted = weights[where]
    return Measure(key, "share", lambda rows: float(np.average(values[rows], weights=counted[rows])), groups)


def _overall(right: np.ndarray, sections: dict[str, np.ndarray], weights: np.ndarray) -> Measure:
    """The mean of the sections, each of which counts alike."""
    names = np.asarray([next((n for n, where in sections.items() if where[i]), "") for i in range(len(right))])
    kept = np.flatnonzero(names != "")
    values, counted, section = right[kept], weights[kept], names[kept]

    def statistic(rows: np.ndarray) -> float:
        means = [np.average(values[rows][at], weights=counted[rows][at])
                 for at in (section[rows] == name for name in sections) if at.any()]  # fmt: skip
        return float(np.mean(means))

    return Measure("rewardbench_score", "share", statistic, kept.tolist(), f"mean of {len(sections)} of 4 sections")
