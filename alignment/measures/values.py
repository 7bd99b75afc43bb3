"""values.jsonl: what each mean is the mean of, item by item, so that versions of two runs can be paired later.

One row a figure and item: {"metric": key, "item": name, "group": cluster, "value": v, "other": v or null, "against":
input}. `other` is the value on the same item of what the stage measured beside it, the input that `against` names.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from alignment.data.rows import write_jsonl
from alignment.measures.figures import MeanOf, Measure

VALUES = "values.jsonl"


def item_of(*what: Any) -> str:
    """A name of 16 hex digits that depends on nothing but the content, so every run gives an item the same one."""
    written = json.dumps(what, sort_keys=True, ensure_ascii=False)
    return hashlib.sha256(written.encode()).hexdigest()[:16]


def keep_values(output: Path, compared: dict[str, Sequence[Sequence[Measure]]]) -> dict[str, Any]:
    """Write values.jsonl. Returns result.json's "values": the file's name and SHA-256.

    Args:
        compared: the measures of one arm, or two, by the name of the input that the second one is.
    """
    write_jsonl(output / VALUES, (row for against, arms in compared.items() for row in value_rows(arms, against)))
    return {"file": VALUES, "sha256": hashlib.sha256((output / VALUES).read_bytes()).hexdigest()}


def value_rows(arms: Sequence[Sequence[Measure]], against: str) -> Iterator[dict[str, Any]]:
    """A row an item of each measure of the first arm that is a mean of named items. What is not finite is left out."""
    others = {measure.key: dict(named_values(measure)) for measure in arms[1]} if len(arms) > 1 else {}
    for measure in arms[0]:
        beside = others.get(measure.key, {})
        for (item, value), group in zip(named_values(measure), measure.groups, strict=False):
            if math.isfinite(value):
                yield {"metric": measure.key, "item": item, "group": str(group), "value": value,
                       "other": finite(beside.get(item)), "against": against}  # fmt: skip


def named_values(measure: Measure) -> list[tuple[str, float]]:
    if not measure.items or not isinstance(measure.statistic, MeanOf):
        return []
    return list(zip(measure.items, measure.statistic.values.tolist(), strict=True))


def finite(value: float | None) -> float | None:
    return value if value is not None and math.isfinite(value) else None
