"""What changed between two versions of a text, word by word. Pure functions."""

import re
from collections.abc import Iterator
from difflib import SequenceMatcher

from labelapp.labeling.answers import UNSPACED

Parts = list[tuple[str, str]]
SAME, ADDED, REMOVED, GAP = "same", "ins", "del", "gap"
KEPT_WORDS = 24
MOST_COMPARED = 4_000_000  # pairs of words; a block beyond it is shown as replaced
TOKEN = re.compile(rf"\s+|[{UNSPACED}]|[^\W{UNSPACED}]+|[^\w\s]")


def word_diff(old: str, new: str) -> Parts:
    """(kind, text) in reading order: "same", "del" for what only the old text has, "ins" for what only the new one has.

    Joined without the insertions it is the old text, joined without the deletions the new one.
    """
    parts: Parts = []
    for before, after in _blocks(old.splitlines(keepends=True), new.splitlines(keepends=True)):
        before, after = TOKEN.findall(before), TOKEN.findall(after)
        for kind, start, end, first, last in _operations(before, after):
            _append(parts, kind, "".join(before[start:end]), "".join(after[first:last]))
    return parts


def _blocks(old: list[str], new: list[str]) -> Iterator[tuple[str, str]]:
    """Lines first, which keeps long texts quick."""
    for _, start, end, first, last in SequenceMatcher(None, old, new).get_opcodes():
        yield "".join(old[start:end]), "".join(new[first:last])


def _operations(before: list[str], after: list[str]) -> list[tuple]:
    """How to get from one to the other; equal blocks and those too long to compare are taken as they are."""
    if before == after or len(before) * len(after) > MOST_COMPARED:
        kind = "equal" if before == after else "replace"
        return [(kind, 0, len(before), 0, len(after))]
    return SequenceMatcher(str.isspace, before, after).get_opcodes()


def _append(parts: Parts, kind: str, gone: str, came: str) -> None:
    """One removal, then one addition, between two stretches that stayed."""
    if kind == "equal":
        before = parts.pop()[1] if parts and parts[-1][0] == SAME else ""
        parts.extend(_kept(before + gone))
        return
    removed, added = _taken_back(parts)
    kept = _space_of_both(gone, came)
    gone, came = gone.removesuffix(kept), came.removesuffix(kept)
    parts.extend((kind, text) for kind, text in ((REMOVED, removed + gone), (ADDED, added + came)) if text)
    parts.extend(_kept(kept))


def _space_of_both(gone: str, came: str) -> str:
    """The white space in which both end: a changed word keeps its line break."""
    if not gone.strip() or not came.strip():
        return ""
    first, second = gone[len(gone.rstrip()) :], came[len(came.rstrip()) :]
    return next((first[at:] for at in range(len(first)) if second.endswith(first[at:])), "")


def _taken_back(parts: Parts) -> tuple[str, str]:
    """The change before, where only a space lies between: two words replaced are one change, not two."""
    space, removed, added = "", "", ""
    if len(parts) > 1 and parts[-1][0] == SAME and parts[-1][1].isspace() and "\n" not in parts[-1][1]:
        space = parts.pop()[1]
    if parts and parts[-1][0] == ADDED:
        added = parts.pop()[1]
    if parts and parts[-1][0] == REMOVED:
        removed = parts.pop()[1]
    return removed + space, added + space


def changes_only(parts: Parts, words: int = KEPT_WORDS) -> Parts:
    """The same diff with no more than `words` words around each change; ("gap", "") stands for what is left out."""
    short: Parts = []
    for index, (kind, text) in enumerate(parts):
        if kind != SAME:
            short.append((kind, text))
            continue
        head = "" if index == 0 else _first(text, words)
        tail = "" if index == len(parts) - 1 else _last(text, words)
        if len(head) + len(tail) >= len(text):
            short.append((SAME, text))
        else:
            short += [*_kept(head), (GAP, ""), *_kept(tail)]
    return short if any(kind != SAME for kind, _ in parts) else []


def _kept(text: str) -> Parts:
    return [(SAME, text)] if text else []


def _first(text: str, words: int) -> str:
    return re.match(rf"\s*(?:\S+\s+){{0,{words}}}", text)[0]


def _last(text: str, words: int) -> str:
    return re.search(rf"(?:\s+\S+){{0,{words}}}\s*$", text)[0]
