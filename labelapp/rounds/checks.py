"""What is looked at before a launch, on the machine that trains: data, overlap, disk, memory. Each in a sentence."""

import json
import shutil
from collections import defaultdict
from pathlib import Path
from typing import Any

import psutil
from django.conf import settings

from labelapp.models import Estimate, Snapshot
from labelapp.rounds.memory import FP32, mean_row_tokens, memory_of, shape_of
from labelapp.rounds.presets import LABELS

FINE, WARN, BAD = "pass", "warn", "block"
FEW_PAIRS = 100
FEW_SHARED = 0.1  # share of comparisons that at least two people judged
WRITTEN = 5  # copies of the weights that a training stage writes: checkpoint, best weights, and a state of three


def checks_of(estimate: Estimate) -> list[dict[str, str]]:
    """[{"name", "verdict", "text"}, ...]"""
    return [
        check_pairs(estimate.snapshot),
        check_overlap(estimate.snapshot),
        check_disk(estimate.parent.path, estimate.stages),
        check_memory(estimate.parent.path, estimate.stages, Path(estimate.snapshot.path) / "pairs-train.jsonl"),
    ]


def told(name: str, verdict: str, text: str) -> dict[str, str]:
    return {"name": name, "verdict": verdict, "text": text}


def check_pairs(snapshot: Snapshot) -> dict[str, str]:
    train, test = snapshot.pairs_train, snapshot.pairs_test
    text = f"{train:,} decisive pairs to train, {test:,} held out, of {snapshot.judgments:,} judgments"
    if min(train, test) < FEW_PAIRS:
        return told("Data", WARN, f"{text}: with fewer than {FEW_PAIRS} on a side, intervals will be wide.")
    return told("Data", FINE, f"{text}.")


def check_overlap(snapshot: Snapshot) -> dict[str, str]:
    """How many comparisons were judged by two people or more: only those say how far people agree."""
    counts = judges_of(snapshot)
    shared, all_of_them = sum(count >= 2 for count in counts), len(counts)
    if not all_of_them:
        return told("Overlap", WARN, "The snapshot holds no judgments by name: how far people agree is not known.")
    text = f"{shared:,} of {all_of_them:,} comparisons were judged by two people or more"
    if shared / all_of_them < FEW_SHARED:
        return told("Overlap", WARN, f"{text}: too few to say how far people agree, and so how good a model can get.")
    return told("Overlap", FINE, f"{text}.")


def judges_of(snapshot: Snapshot) -> list[int]:
    """For each comparison how many different people judged it."""
    people: dict[Any, set] = defaultdict(set)
    with open(Path(snapshot.path) / "judgments.jsonl") as rows:
        for row in map(json.loads, rows):
            people[row["comparison"]].add(row["annotator"])
    return [len(each) for each in people.values()]


def check_disk(parent: str, stages: list[dict]) -> dict[str, str]:
    needed, free = disk_bytes(parent, stages), shutil.disk_usage(settings.ARTIFACT_DIR).free
    text = f"about {size(needed)} are written, {size(free)} are free"
    if needed > free:
        return told("Disk", BAD, f"{text}: remove what no row names with manage.py gc, or make room.")
    return told("Disk", FINE, f"{text}.")


def disk_bytes(parent: str, stages: list[dict]) -> int:
    """Checkpoints of all stages that train; their states one after the other, as a finished stage's is removed."""
    weights = sum(file.stat().st_size for file in Path(parent).glob("*.safetensors"))
    train = sum("optimization" in spec["config"] for spec in stages)
    return weights * (train + WRITTEN - 1 if train else 0) + 2**26


def check_memory(parent: str, stages: list[dict], pairs: Path) -> dict[str, str]:
    """The stage that needs most, by the formula, against this machine's memory. It only warns: a GPU has its own."""
    try:
        shape, tokens = shape_of(parent), mean_row_tokens(pairs)
        needs = {
            spec["name"]: memory_of(shape, spec["stage"], spec["config"], row_tokens=tokens).total for spec in stages
        }
    except (OSError, ValueError, KeyError) as error:
        return told("Memory", WARN, f"How much is needed cannot be reckoned: {error}.")
    most = max(needs, key=needs.get)
    total = psutil.virtual_memory().total
    text = (
        f"about {size(needs[most])} at most, in {LABELS.get(most, most)}, for {shape.parameters / 1e6:,.1f} million "
        f"parameters ({size(FP32 * shape.parameters)} of weights); this machine has {size(total)}"
    )
    return told("Memory", WARN if needs[most] > total else FINE, f"{text}.")


def size(count: float) -> str:
    """Bytes for a person, such as "1.2 GB"."""
    for unit, worth in (("TB", 1e12), ("GB", 1e9), ("MB", 1e6)):
        if count >= worth:
            return f"{count / worth:,.1f} {unit}"
    return f"{count / 1e3:,.0f} kB"
