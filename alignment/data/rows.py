"""Rows of a JSON lines file: read, each refused by its line number, and written."""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from alignment.config import JobError


def read_jsonl(path: str | Path, what: str) -> Iterable[tuple[int, dict[str, Any]]]:
    """(1-based line number, object) of every line that is not blank, of a .gz too. Raises JobError naming the line."""
    try:
        opened = gzip.open if Path(path).suffix == ".gz" else open
        with opened(path, "rt", encoding="utf-8") as stream:
            lines = stream.read().split("\n")  # splitlines() would cut at U+2028 inside a text
    except (OSError, EOFError, UnicodeDecodeError) as error:
        raise JobError(f"cannot read the {what} in {path}: {error}") from error
    for number, line in enumerate(lines, 1):
        if line.strip():
            yield number, _object(line, f"{path} line {number}")


def _object(line: str, place: str) -> dict[str, Any]:
    try:
        row = json.loads(line)
    except json.JSONDecodeError as error:
        raise JobError(f"{place} is no JSON: {error}") from error
    if not isinstance(row, dict):
        raise JobError(f"{place} must be a JSON object, got {type(row).__name__}")
    return row


def write_jsonl(path: Path, rows: Iterable[dict[str, Any]]) -> None:
    with open(path, "w") as stream:
        stream.writelines(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
