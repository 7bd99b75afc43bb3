"""Human preferences as rows of pairs files: the demo's arguments, UKPConvArg1 and the dialogues of HH-RLHF."""

from __future__ import annotations

import gzip
import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from alignment.data.text import Messages
from benchmarks._stages import DEMO

Row = dict[str, Any]
LAST_ANSWER = "\n\nAssistant:"
# One topic is spelled in two ways in the two files that UKPConvArg1 comes in; the demo has the other one.
STRICT_TOPIC, DEMO_TOPIC = "-_advancing-the-commond-good", "-_advancing-the-comnong-good"


def read_demo() -> list[Row]:
    """The demo's pairs by the majority of their votes; what is undecided is left out."""
    lines, debates = read_gzip(DEMO / "arguments.jsonl.gz"), read_debates()
    arguments = {line["argument"]: line for line in lines if "text" in line}
    rows = []
    for line in lines:
        counts = Counter(line.get("votes", {}).values())  # 1 and 2 name the better side, 0 neither
        if counts[1] != counts[2]:
            better, worse = (arguments[n] for n in (line["pair"] if counts[1] > counts[2] else line["pair"][::-1]))
            debate = debates[better["stance"]]
            rows.append(pair(user(debate["prompt"]), better["text"], worse["text"], debate["debate"]))
    return rows


def read_ukp(path: Path) -> list[Row]:
    """UKPConvArg1Strict: {"topic", "label": "a1" or "a2", "a1", "a2"} a line. The group is the debate: two topics."""
    debates, rows = read_debates(), []
    for line in read_gzip(path):
        debate = debates[line["topic"].replace(STRICT_TOPIC, DEMO_TOPIC)]
        worse = "a1" if line["label"] == "a2" else "a2"
        rows.append(pair(user(debate["prompt"]), line[line["label"]], line[worse], debate["debate"]))
    return rows


def read_hh(path: Path) -> list[Row]:
    """HH-RLHF: {"chosen", "rejected"}, dialogues that differ in the last answer. The group is what comes before it."""
    rows = []
    for line in read_gzip(path):
        (prompt, chosen), (other, rejected) = (line[side].rsplit(LAST_ANSWER, 1) for side in ("chosen", "rejected"))
        if prompt == other and chosen.strip() != rejected.strip():
            rows.append(pair(turns(prompt), chosen.strip(), rejected.strip(), prompt))
    return rows


def turns(dialogue: str) -> Messages:
    """The turns of "\\n\\nHuman: ... \\n\\nAssistant: ..."."""
    parts = [part.split(LAST_ANSWER) for part in dialogue.split("\n\nHuman:")[1:]]
    found = [(role, text.strip()) for part in parts for role, text in zip(("user", "assistant"), part, strict=False)]
    return [{"role": role, "content": text} for role, text in found]


def pair(prompt: Messages, chosen: str, rejected: str, group: str) -> Row:
    sides = ({"role": "assistant", "content": text} for text in (chosen, rejected))
    return {"prompt": prompt, "chosen": [next(sides)], "rejected": [next(sides)], "margin": 0.0, "group": group}


def user(text: str) -> Messages:
    return [{"role": "user", "content": text}]


def read_debates() -> dict[str, dict[str, str]]:
    return json.loads((DEMO / "debates.json").read_text())


def read_gzip(path: Path) -> list[dict[str, Any]]:
    with gzip.open(path, "rt", encoding="utf-8") as stream:
        return [json.loads(line) for line in stream]


def folds(rows: list[Row], count: int) -> Iterator[tuple[list[Row], list[Row]]]:
    """(train, test) of each fold: whole groups, about equally many pairs. Each pair is tested once.

    The largest group goes to the smallest fold, and so on: a function of the rows alone.
    """
    sizes, sums, fold_of = Counter(row["group"] for row in rows), np.zeros(count), {}
    for group, size in sorted(sizes.items(), key=lambda item: (-item[1], item[0])):
        fold_of[group] = int(sums.argmin())
        sums[fold_of[group]] += size
    for fold in range(count):
        yield ([row for row in rows if fold_of[row["group"]] != fold],
               [row for row in rows if fold_of[row["group"]] == fold])  # fmt: skip


def some_of(rows: list[Row], most: int, seed: int) -> list[Row]:
    """At most so many rows, drawn at random; all for 0. Each gets a number to be found again by."""
    if most and len(rows) > most:
        rows = [rows[i] for i in sorted(np.random.default_rng(seed).choice(len(rows), most, replace=False))]
    return [{**row, "comparison": number} for number, row in enumerate(rows)]
