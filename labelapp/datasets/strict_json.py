"""One line of a file as a JSON object, or the reason why not. Stricter than `json.loads`: what Postgres or another
reader would choke on, or silently change, is refused here."""

import json
from typing import Any

MAX_DEPTH = 32
MAX_INTEGER = 2**63


class BadRow(ValueError):
    """A row cannot be taken. The message is a reason for a person, without the row's number."""


def decode(line: bytes) -> dict[str, Any]:
    """The object on this line. Raises BadRow for anything but one strict JSON object."""
    try:
        text = line.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise BadRow(f"not UTF-8: byte 0x{line[error.start]:02x} at position {error.start}") from error
    try:
        value = json.loads(
            text, parse_constant=_no_constant, parse_float=_finite, parse_int=_integer, object_pairs_hook=_unique_keys
        )
    except json.JSONDecodeError as error:
        raise BadRow(f"not JSON: {error.msg} at position {error.pos}") from error
    except RecursionError as error:
        raise BadRow(f"nested deeper than {MAX_DEPTH} levels") from error
    if not isinstance(value, dict):
        raise BadRow("not a JSON object")
    _check_tree(value)
    return value


def _no_constant(name: str):
    raise BadRow(f"{name} is not JSON")


def _finite(digits: str) -> float:
    number = float(digits)
    if number in (float("inf"), float("-inf")):
        raise BadRow(f"the number {digits[:20]} is too large")
    return number


def _integer(digits: str) -> int:
    if len(digits) > 20 or not -MAX_INTEGER <= int(digits) < MAX_INTEGER:
        raise BadRow(f"the integer {digits[:20]}{'...' if len(digits) > 20 else ''} needs more than 64 bits")
    return int(digits)


def _unique_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        keys = [key for key, _ in pairs]
        twice = next(key for key in keys if keys.count(key) > 1)
        raise BadRow(f"the key {twice[:40]!r} appears twice")
    return found


def _check_tree(root: Any) -> None:
    """Walk without recursion: depth, and text that Postgres cannot store."""
    waiting = [(root, 1)]
    while waiting:
        value, depth = waiting.pop()
        if isinstance(value, str):
            check_text(value)
        elif isinstance(value, (dict, list)):
            if depth > MAX_DEPTH:
                raise BadRow(f"nested deeper than {MAX_DEPTH} levels")
            children = [*value.keys(), *value.values()] if isinstance(value, dict) else value
            waiting += [(child, depth + 1) for child in children]


def check_text(text: str) -> None:
    if "\x00" in text:
        raise BadRow("contains a NUL character, which the database cannot store")
    if any("\ud800" <= letter <= "\udfff" for letter in text):
        raise BadRow("contains half of a surrogate pair, which is no character")
