"""Bytes from strangers as one JSON object, or the reason why not: a row of a file, the body of a request. Stricter than
`json.loads`: what Postgres or another reader would choke on, or silently change, is refused here."""

import json
from collections.abc import Iterator
from typing import Any, NamedTuple

MAX_DEPTH = 32
MAX_INTEGER = 2**63
LONGEST_PATH = 200


class BadJson(ValueError):
    """The bytes cannot be taken. The message is a reason; `path` names the value, empty where all of them are meant."""

    def __init__(self, reason: str, path: str = "") -> None:
        super().__init__(reason)
        self.path = path[:LONGEST_PATH]


class NoNumber(NamedTuple):
    """Stands where a number cannot be taken, until the walk through the tree knows the path to it."""

    reason: str


def decode(raw: bytes, *, most: int | None = None) -> dict[str, Any]:
    """The object in these bytes. Raises BadJson for anything but one strict JSON object of at most `most` values."""
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise BadJson(f"not UTF-8: byte 0x{raw[error.start]:02x} at position {error.start}") from error
    try:
        value = json.loads(
            text, parse_constant=_no_constant, parse_float=_finite, parse_int=_integer, object_pairs_hook=_unique_keys
        )
    except json.JSONDecodeError as error:
        raise BadJson(f"not JSON: {error.msg} at position {error.pos}") from error
    except RecursionError as error:
        raise BadJson(f"nested deeper than {MAX_DEPTH} levels") from error
    if not isinstance(value, dict):
        raise BadJson("not a JSON object")
    for count, (path, problem) in enumerate(_walk(value), 1):
        if most is not None and count > most:
            raise BadJson(f"more than {most} values")
        if problem:
            raise BadJson(problem, path)
    return value


def _no_constant(name: str) -> NoNumber:
    return NoNumber(f"{name} is not JSON")


def _finite(digits: str) -> float | NoNumber:
    number = float(digits)
    if number in (float("inf"), float("-inf")):
        return NoNumber(f"the number {digits[:20]} is too large")
    return number


def _integer(digits: str) -> int | NoNumber:
    if len(digits) <= 20 and -MAX_INTEGER <= int(digits) < MAX_INTEGER:
        return int(digits)
    reason = f"the integer {digits[:20]}{'...' if len(digits) > 20 else ''} needs more than 64 bits"
    if len(digits) > 1000:  # no number that anybody meant
        raise BadJson(reason)
    return NoNumber(reason)


def _unique_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """json takes the last of two equal keys; which one another reader took is anybody's guess, so neither is taken."""
    found = dict(pairs)
    if len(found) < len(pairs):
        keys = [key for key, _ in pairs]
        twice = next(key for key in keys if keys.count(key) > 1)
        raise BadJson(f"the key {twice[:40]!r} appears twice")
    return found


def _walk(root: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """Every value's path and what is wrong with it, "" if nothing. Iterative: depth is refused, not suffered."""
    waiting = [("", root, 1)]
    while waiting:
        path, value, depth = waiting.pop()
        yield path, _problem(value, depth)
        if isinstance(value, dict):
            for key, inner in value.items():
                yield path, _problem(key, depth)
                waiting.append((f"{path}.{key}" if path else key, inner, depth + 1))
        elif isinstance(value, list):
            waiting += [(f"{path}[{index}]", inner, depth + 1) for index, inner in enumerate(value)]


def _problem(value: Any, depth: int) -> str:
    if isinstance(value, NoNumber):
        return value.reason
    if isinstance(value, (dict, list)) and depth > MAX_DEPTH:
        return f"nested deeper than {MAX_DEPTH} levels"
    if isinstance(value, str) and "\x00" in value:
        return "contains a NUL character, which the database cannot store"
    if isinstance(value, str) and any("\ud800" <= letter <= "\udfff" for letter in value):
        return "contains half of a surrogate pair, which is no character"
    return ""
