"""Engine events in the words of the OpenAI API: whole answers, and chunks of a stream."""

import json
import time
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field
from secrets import token_hex
from typing import Any


@dataclass
class Choice:
    """What one row has said so far."""

    index: int
    text: str = ""
    logprobs: list[dict] = field(default_factory=list)
    finish: str | None = None
    tokens: int = 0


class Shape:
    """One answer's constant facts: id, time, version; and how its route writes choices and chunks."""

    prefix = kind = chunk_kind = ""

    def __init__(self, *, version: str, prompt_tokens: list[int], rows: int, logprobs: bool, usage: bool) -> None:
        self.id = f"{self.prefix}-{token_hex(12)}"
        self.created = int(time.time())
        self.version, self.prompt_tokens = version, prompt_tokens
        self.wants_logprobs, self.wants_usage = logprobs, usage
        self.choices = [Choice(index) for index in range(rows)]

    def head(self, kind: str) -> dict[str, Any]:
        return {
            "id": self.id, "object": kind, "created": self.created, "model": self.version,
            "system_fingerprint": self.version,
        }  # fmt: skip

    def usage(self) -> dict[str, int]:
        """Prompts are counted once however many answers they got."""
        asked, said = sum(self.prompt_tokens), sum(choice.tokens for choice in self.choices)
        return {"prompt_tokens": asked, "completion_tokens": said, "total_tokens": asked + said}

    def take(self, event: dict[str, Any]) -> Choice:
        """Note an event in its row's choice."""
        choice = self.choices[event["row"]]
        choice.text += event.get("text", "")
        choice.logprobs += event.get("logprobs") or []
        choice.finish = event.get("finish")
        choice.tokens = event.get("tokens", choice.tokens)
        return choice

    def whole(self) -> dict[str, Any]:
        choices = [
            self.choice(choice) | {"logprobs": self.logprobs(choice.logprobs, ""), "finish_reason": choice.finish}
            for choice in self.choices
        ]
        return self.head(self.kind) | {"choices": choices, "usage": self.usage(), "inference_id": self.id}

    def openings(self) -> Iterator[dict[str, Any]]:
        yield from ()

    def chunk(self, index: int, content: dict[str, Any], logprobs: Any = None, finish: str | None = None) -> dict:
        choice = {"index": index, **content, "logprobs": logprobs, "finish_reason": finish}
        return self.head(self.chunk_kind) | {"choices": [choice]} | ({"usage": None} if self.wants_usage else {})

    def chunks(self, event: dict[str, Any]) -> Iterator[dict[str, Any]]:
        before = self.choices[event["row"]].text
        choice = self.take(event)
        if event.get("text") or event.get("logprobs"):
            logprobs = self.logprobs(event.get("logprobs") or [], before)
            yield self.chunk(choice.index, self.delta(event.get("text", "")), logprobs)
        if choice.finish:
            yield self.chunk(choice.index, self.delta(""), finish=choice.finish)

    def closing(self) -> Iterator[dict[str, Any]]:
        if self.wants_usage:
            yield self.head(self.chunk_kind) | {"choices": [], "usage": self.usage()}

    def choice(self, choice: Choice) -> dict[str, Any]:
        raise NotImplementedError

    def delta(self, text: str) -> dict[str, Any]:
        raise NotImplementedError

    def logprobs(self, entries: list[dict], before: str) -> dict[str, Any] | None:
        raise NotImplementedError


class Chat(Shape):
    prefix, kind, chunk_kind = "chatcmpl", "chat.completion", "chat.completion.chunk"

    def choice(self, choice: Choice) -> dict[str, Any]:
        message = {"role": "assistant", "content": choice.text, "refusal": None}
        return {"index": choice.index, "message": message}

    def openings(self) -> Iterator[dict[str, Any]]:
        for choice in self.choices:
            yield self.chunk(choice.index, {"delta": {"role": "assistant", "content": ""}})

    def delta(self, text: str) -> dict[str, Any]:
        return {"delta": {"content": text} if text else {}}

    def logprobs(self, entries: list[dict], before: str) -> dict[str, Any] | None:
        if not self.wants_logprobs:
            return None
        content = [{**named(entry), "top_logprobs": [named(top) for top in entry["top"]]} for entry in entries]
        return {"content": content, "refusal": None}


class Completion(Shape):
    prefix, kind, chunk_kind = "cmpl", "text_completion", "text_completion"

    def choice(self, choice: Choice) -> dict[str, Any]:
        return {"index": choice.index, "text": choice.text}

    def delta(self, text: str) -> dict[str, Any]:
        return {"text": text}

    def logprobs(self, entries: list[dict], before: str) -> dict[str, Any] | None:
        if not self.wants_logprobs:
            return None
        offsets, place = [], len(before)
        for entry in entries:
            offsets.append(place)
            place += len(entry["token"])
        return {
            "tokens": [entry["token"] for entry in entries],
            "token_logprobs": [entry["logprob"] for entry in entries],
            "top_logprobs": [tops(entry) for entry in entries],
            "text_offset": offsets,
        }


def named(entry: dict[str, Any]) -> dict[str, Any]:
    return {"token": entry["token"], "bytes": list(entry["token"].encode()), "logprob": entry["logprob"]}


def tops(entry: dict[str, Any]) -> dict[str, float] | None:
    """The first token of an echoed prompt has no probability: null, as in the OpenAI API."""
    return None if entry["logprob"] is None else {top["token"]: top["logprob"] for top in entry["top"]}


def event_line(payload: Any) -> bytes:
    return f"data: {json.dumps(payload, ensure_ascii=False, separators=(',', ':'))}\n\n".encode()


async def stream_lines(shape: Shape, events: AsyncIterator[dict[str, Any]]) -> AsyncIterator[bytes]:
    """Server-sent events from the first role to [DONE]. An error of `events` propagates."""
    for chunk in shape.openings():
        yield event_line(chunk)
    async for event in events:
        for chunk in shape.chunks(event):
            yield event_line(chunk)
    for chunk in shape.closing():
        yield event_line(chunk)
    yield b"data: [DONE]\n\n"
