"""The first rows of a snapshot's training file, for the eye."""

import json
from itertools import islice
from pathlib import Path
from typing import NamedTuple

from alignment.manifest import ArtifactError
from labelapp.models import Snapshot
from labelapp.storage import StoreAway, at_hand

SHOWN = 3


class Pair(NamedTuple):
    turns: list[dict[str, str]]
    chosen: str
    rejected: str
    votes: str
    comparison: int


def first_rows(snapshot: Snapshot, *, count: int = SHOWN) -> list[Pair]:
    """Read from the file itself; none where the file is gone."""
    try:
        with open(Path(at_hand(snapshot.path, snapshot.digest)) / "pairs-train.jsonl", encoding="utf-8") as file:
            return [_pair(json.loads(line)) for line in islice(file, count)]
    except (ArtifactError, FileNotFoundError, StoreAway):
        return []


def _pair(row: dict) -> Pair:
    votes = f"{row['votes_chosen']} to {row['votes_rejected']}"
    if row["votes_tie"]:
        votes += f", {row['votes_tie']} tied"
    return Pair(
        turns=row["prompt"],
        chosen=row["chosen"][0]["content"],
        rejected=row["rejected"][0]["content"],
        votes=votes,
        comparison=row["comparison"],
    )
