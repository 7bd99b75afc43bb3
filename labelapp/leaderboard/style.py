"""What a text looks like, counted: length and markdown, so that a leaderboard can hold them equal."""

import re
from typing import NamedTuple

import numpy as np

NAMES = ("length", "headers", "lists", "bold")
FENCE = re.compile(r"^(```|~~~).*?^\1", re.MULTILINE | re.DOTALL)
HEADER = re.compile(r"^ {0,3}#{1,6}\s", re.MULTILINE)
ITEM = re.compile(r"^\s*(?:[-*+]|\d{1,3}[.)])\s", re.MULTILINE)
BOLD = re.compile(r"\*\*[^*\n]+\*\*|__[^_\n]+__")


class Style(NamedTuple):
    """Words of the whole text; headers, list items and bold spans outside of fenced code."""

    length: int
    headers: int
    lists: int
    bold: int


def style_of(text: str) -> Style:
    prose = FENCE.sub("", text)
    return Style(len(text.split()), *(len(pattern.findall(prose)) for pattern in (HEADER, ITEM, BOLD)))


def differences(first: list[Style], second: list[Style]) -> np.ndarray:
    """(n, 4): for each style (a - b) / (a + b), 0 where neither has any, then divided by its root mean square.

    After LMArena's style control (2024), but not centred: to exchange the two sides only changes the sign. An effect is
    thus in nats for a typical difference. A style that never differs stays 0.
    """
    a, b = np.array(first, float).reshape(-1, len(NAMES)), np.array(second, float).reshape(-1, len(NAMES))
    both = a + b
    share = np.divide(a - b, both, out=np.zeros_like(both), where=both > 0)
    scale = np.sqrt((share**2).mean(axis=0)) if len(share) else np.ones(len(NAMES))
    return share / np.where(scale > 0, scale, 1)
