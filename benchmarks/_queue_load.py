"""Simulated labelers over real HTTP, in a process of their own: reads one JSON job from stdin, prints one result.

A labeler keeps one connection, as a browser does, with session, CSRF token and gzip. `page` does what the page's
script does: the answer to a submit brings the next item. `plain` is the page without JavaScript: submit, be sent on,
fetch the next item. `bare` asks the bare view in the same way as `page`.
"""

from __future__ import annotations

import asyncio
import gzip
import json
import random
import re
import sys
import time
from typing import Any
from urllib.parse import urlencode
from uuid import uuid4

HIDDEN = re.compile(r'<input type="hidden" name="([a-z_]+)" value="([^"]*)"')
TOKEN = re.compile(rb"csrftoken=([A-Za-z0-9]+)")
SAVED = re.compile(rb"\r\nx-saved: (\d+)", re.IGNORECASE)
WARM_UP = 1.0  # seconds at the start whose judgments are made, checked and not timed


class Wire(asyncio.Protocol):
    """One connection with one request at a time."""

    def __init__(self) -> None:
        self.seen, self.answer = b"", None

    def connection_made(self, transport) -> None:
        self.transport = transport

    def connection_lost(self, error) -> None:
        if self.answer and not self.answer.done():
            self.answer.set_exception(ConnectionError("the server hung up"))

    def data_received(self, data: bytes) -> None:
        self.seen += data
        head, found, body = self.seen.partition(b"\r\n\r\n")
        if not found:
            return
        lower = head.lower()
        at = lower.find(b"content-length:")
        length = int(lower[at + 15 :].split(b"\r\n", 1)[0]) if at > 0 else 0
        if len(body) >= length and not self.answer.done():
            self.seen = b""
            body = gzip.decompress(body) if b"content-encoding: gzip" in lower else body
            self.answer.set_result((int(head[9:12]), head, body))

    async def ask(self, request: bytes) -> tuple[int, bytes, bytes]:
        self.answer = asyncio.get_running_loop().create_future()
        self.transport.write(request)
        return await asyncio.wait_for(self.answer, 60)


class Labeler:
    """One person with one tab."""

    def __init__(self, job: dict[str, Any], person: dict[str, Any], tally: Tally) -> None:
        self.job, self.person, self.tally, self.token, self.wire = job, person, tally, "", None

    async def work(self, begin: float, end: float) -> None:
        try:
            item = await self.first()
            await asyncio.sleep(max(0, begin - time.perf_counter()))
            while time.perf_counter() < end:
                await self.think(begin)
                item = await self.submit(item, begin + WARM_UP, end)
        except (ConnectionError, TimeoutError, ValueError, KeyError) as error:
            self.tally.errors.append(f"{type(error).__name__}: {error}"[:300])
        finally:
            if self.wire:
                self.wire.transport.close()

    async def ask(self, request: bytes) -> tuple[int, bytes, bytes]:
        """The answer; on a new connection where the server has let an idle one go, as browsers do."""
        if self.wire is None or self.wire.transport.is_closing():
            loop = asyncio.get_running_loop()
            _, self.wire = await loop.create_connection(Wire, self.job["host"], self.job["port"])
        return await self.wire.ask(request)

    async def think(self, begin: float) -> None:
        if pace := self.job["pace"]:
            await asyncio.sleep(random.uniform(0.5, 1.5) * pace)

    async def first(self) -> Any:
        if self.job["flow"] == "bare":
            return json.loads(await self.checked(self.post(f"/{self.person['id']}/", "", "{}")))
        return await self.fetch()

    async def fetch(self) -> dict[str, str]:
        """The page with the next item; its form."""
        status, head, body = await self.ask(self.head("GET", self.job["path"]) + b"\r\n")
        if found := TOKEN.search(head):
            self.token = found[1].decode()
        return self.form(status, body)

    async def submit(self, item: Any, begin: float, end: float) -> Any:
        began = time.perf_counter()
        if self.job["flow"] == "bare":
            request = self.post(f"/{self.person['id']}/", "", json.dumps({**item, "submission_id": str(uuid4())}))
        else:
            said = urlencode({**item, "answer": random.choice((-2, -1, 1, 2)), "active_seconds": 12})
            request = self.post(self.job["path"], "" if self.job["flow"] == "plain" else "HX-Request: true\r\n", said)
        status, head, body = await self.ask(request)
        middle = time.perf_counter()
        if self.job["flow"] == "plain" and status == 303:
            item = await self.fetch()
            self.tally.claims.append(time.perf_counter() - middle)
        elif self.job["flow"] == "bare":
            item = json.loads(body)
        else:
            item = self.form(status, body)
            self.tally.acknowledged.append(int(SAVED.search(head)[1]))
            self.tally.bytes.append(len(head) + int(re.search(rb"content-length: (\d+)", head, re.IGNORECASE)[1]))
        self.tally.answered += 1
        if begin <= began and middle <= end:
            self.tally.submits.append(middle - began)
            self.tally.loops.append(time.perf_counter() - began)
        return item

    def form(self, status: int, body: bytes) -> dict[str, str]:
        text = body.decode()
        at = text.find('<form id="answer"')
        if status != 200 or at < 0:
            raise ValueError(f"no item: {status} {' '.join(re.sub('<[^>]*>', ' ', text).split())[:200]}")
        return dict(HIDDEN.findall(text, at, text.find("</form>", at)))

    async def checked(self, request: bytes) -> bytes:
        status, _, body = await self.ask(request)
        if status != 200:
            raise ValueError(f"no item: {status} {body[:200]!r}")
        return body

    def head(self, method: str, path: str) -> bytes:
        cookies = f"sessionid={self.person['session']}" + (f"; csrftoken={self.token}" if self.token else "")
        return (
            f"{method} {path} HTTP/1.1\r\nHost: {self.job['host']}:{self.job['port']}\r\nCookie: {cookies}\r\n"
            "User-Agent: Mozilla/5.0 (bench)\r\nAccept: text/html\r\nAccept-Encoding: gzip\r\n"
        ).encode()

    def post(self, path: str, more: str, body: str) -> bytes:
        kind = "application/x-www-form-urlencoded"
        rest = f"{more}Content-Type: {kind}\r\nContent-Length: {len(body.encode())}\r\n\r\n{body}"
        return self.head("POST", path) + rest.encode()


class Tally:
    """What all labelers of this process saw."""

    def __init__(self) -> None:
        self.submits, self.claims, self.loops, self.acknowledged, self.errors, self.bytes = [], [], [], [], [], []
        self.answered = 0


async def run(job: dict[str, Any]) -> dict[str, Any]:
    tally, cpu = Tally(), time.process_time()
    begin = time.perf_counter() + 0.5 + 0.02 * len(job["people"])
    end = begin + WARM_UP + job["seconds"]
    await asyncio.gather(*(Labeler(job, person, tally).work(begin, end) for person in job["people"]))
    seconds = time.perf_counter() - begin
    return {**vars(tally), "cpu_share": (time.process_time() - cpu) / seconds}


if __name__ == "__main__":
    print(json.dumps(asyncio.run(run(json.load(sys.stdin)))))
