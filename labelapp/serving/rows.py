"""One answer in the making: what was sampled, what may be shown of it, and when it ends. Torch-free."""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

BROKEN = "\ufffd"  # what decoding writes for bytes that are no UTF-8 (yet)

Decode = Callable[[list[int]], str]


class TextFlow:
    """Text of a growing list of token ids: only whole characters, never a stop string, never taken back.

    A byte-level token may end inside a character; what decodes to U+FFFD at the end waits for the next token. What
    could be the beginning of a stop string waits too.
    """

    def __init__(self, decode: Decode, stops: tuple[str, ...]) -> None:
        self.decode, self.stops = decode, stops
        self.sent = 0  # characters given out
        self.stopped = False

    def advance(self, ids: list[int], *, final: bool = False) -> str:
        """What is new and safe to show. With `final` nothing more comes: half a character is dropped."""
        text = self.decode(ids)
        text = text[: -len(BROKEN)] if text.endswith(BROKEN) else text
        if (end := first_stop(text, self.stops, self.sent)) is not None:
            self.stopped = True
            text = text[:end]
        elif not final:
            text = text[: len(text) - held_back(text, self.stops)]
        fresh = text[self.sent :]
        self.sent = max(self.sent, len(text))
        return fresh


def first_stop(text: str, stops: tuple[str, ...], sent: int) -> int | None:
    """Where the earliest stop string begins; what was sent cannot hold one, as its beginning would have waited."""
    places = [place for stop in stops if (place := text.find(stop, sent)) >= 0]
    return min(places, default=None)


def held_back(text: str, stops: tuple[str, ...]) -> int:
    """Length of the longest end of the text that is the beginning of a stop string."""
    return max((overlap(text, stop) for stop in stops), default=0)


def overlap(text: str, stop: str) -> int:
    return next((n for n in range(min(len(stop) - 1, len(text)), 0, -1) if text.endswith(stop[:n])), 0)


@dataclass(eq=False)
class Row:
    """A prompt's ids, the ids sampled so far and how to sample; `emit` takes events and must not block."""

    index: int
    prompt: list[int]
    sampling: dict[str, Any]
    max_tokens: int
    seed: int | None
    emit: Callable[[dict[str, Any]], None]
    flow: TextFlow
    ids: list[int] = field(default_factory=list)
    finished: str | None = None
    cancelled: bool = False

    def __post_init__(self) -> None:
        self.counts: Counter[int] = Counter()

    def take(self, token: int, *, is_end: bool, logprobs: list[dict] | None = None) -> None:
        """Note a sampled token, send what became showable, and decide whether this was the last."""
        self.ids.append(token)
        self.counts[token] += 1
        last = is_end or len(self.ids) >= self.max_tokens
        text = self.flow.advance(self.ids, final=last)
        if text or logprobs:
            self.emit({"row": self.index, "text": text, "logprobs": logprobs})
        if last or self.flow.stopped:
            self.finish("stop" if is_end or self.flow.stopped else "length")

    def finish(self, reason: str) -> None:
        self.finished = reason
        self.emit({"row": self.index, "finish": reason, "tokens": len(self.ids)})

    @property
    def gone(self) -> bool:
        return self.cancelled or self.finished is not None
