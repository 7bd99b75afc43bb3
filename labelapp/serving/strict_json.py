"""JSON from strangers: one decoding, no surprises. What passes is finite, shallow, and stores in Postgres."""

import json
import re
from collections.abc import Iterator
from typing import Any

from labelapp.serving.errors import invalid

MAX_DEPTH = 32
MAX_NODES = 100_000
SURROGATE = re.compile("[\ud800-\udfff]")


class DuplicateName(ValueError):
    pass


def decode(raw: bytes) -> dict[str, Any]:
    """The JSON object in the bytes. Raises ApiError 400 naming what is wrong, and where."""
    try:
        body = json.loads(raw.decode("utf-8"), object_pairs_hook=without_duplicates)
    except UnicodeDecodeError as error:
        raise invalid(None, f"The body is not UTF-8: {error.reason} at byte {error.start}.", "invalid_json") from error
    except DuplicateName as error:
        raise invalid(None, f"The body is ambiguous: {error}.", "invalid_json") from error
    except (ValueError, RecursionError) as error:
        raise invalid(None, f"The body is not valid JSON: {str(error)[:120]}.", "invalid_json") from error
    if not isinstance(body, dict):
        raise invalid(None, f"The body must be a JSON object, not {type(body).__name__}.", "invalid_json")
    for count, (path, problem) in enumerate(walk(body)):
        if count >= MAX_NODES:
            raise invalid(None, f"The body has more than {MAX_NODES} values.", "invalid_json")
        if problem:
            raise invalid(path, f"{path} {problem}.")
    return body


def without_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """json takes the last of two equal names; which one a proxy took is anybody's guess, so neither is taken."""
    made = dict(pairs)
    if len(made) < len(pairs):
        names = [name for name, _ in pairs]
        raise DuplicateName(f"the name {next(n for n in names if names.count(n) > 1)[:60]!r} appears twice")
    return made


def walk(body: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """Every value's path and what is wrong with it ("" if nothing). Iterative: depth is refused, not suffered."""
    todo = [("", body, 1)]
    while todo:
        path, value, depth = todo.pop()
        yield path[:200], problem_of(value, depth)
        if isinstance(value, dict):
            for name, inner in value.items():
                yield path[:200], problem_of(name, depth)
                todo.append((f"{path}.{name}" if path else name, inner, depth + 1))
        elif isinstance(value, list):
            todo.extend((f"{path}[{index}]", inner, depth + 1) for index, inner in enumerate(value))


def problem_of(value: Any, depth: int) -> str:
    if depth > MAX_DEPTH:
        return f"is nested deeper than {MAX_DEPTH} levels"
    if isinstance(value, float) and (value != value or value in (float("inf"), float("-inf"))):
        return "must be a finite number"
    if isinstance(value, str) and "\x00" in value:
        return "contains a NUL character"
    if isinstance(value, str) and SURROGATE.search(value):
        return "contains half of a surrogate pair"
    return ""


def show(value: Any) -> str:
    """A value as an error may quote it."""
    try:
        return json.dumps(value, ensure_ascii=False)[:80]
    except ValueError:
        return type(value).__name__
