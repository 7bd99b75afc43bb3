"""The engine's two routes, as a bare ASGI application: GET /healthz, and POST /generate answered by JSON lines."""

import asyncio
import json
from collections.abc import Callable
from functools import partial
from typing import Any

import structlog

from labelapp.serving.batcher import Batcher, Work
from labelapp.serving.errors import ApiError
from labelapp.serving.shelf import Shelf

log = structlog.get_logger(__name__)
ALIVE_SECONDS = 5
LARGEST_BODY = 32 * 1024 * 1024
GONE = {"gone": True}  # put among the events when the caller hangs up

RowsFor = Callable[..., list]


class EngineHttp:
    """Answers the gateway. `rows_for` turns a request for a loaded version into rows."""

    def __init__(self, *, shelf: Shelf, batcher: Batcher, rows_for: RowsFor) -> None:
        self.shelf, self.batcher, self.rows_for = shelf, batcher, rows_for

    async def __call__(self, scope: dict, receive: Callable, send: Callable) -> None:
        route = (scope["method"], scope["path"])
        if route == ("GET", "/healthz"):
            await reply(send, 200, self.state())
        elif route == ("POST", "/generate"):
            await self.generate(receive, send)
        else:
            await reply(send, 404, ApiError(404, "unknown_url", f"There is no {route[0]} {route[1]} here.").body)

    def state(self) -> dict[str, Any]:
        """What is in memory, rows running or waiting, and steps made since the start."""
        rows, steps = self.batcher.load(), self.batcher.steps
        return {"alive": True, "versions": self.shelf.digests(), "rows": rows, "steps": steps}

    async def generate(self, receive: Callable, send: Callable) -> None:
        events: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        put = partial(asyncio.get_running_loop().call_soon_threadsafe, events.put_nowait)
        try:
            work = self.accept(await read(receive), put)
        except ApiError as error:
            return await reply(send, error.status, error.body)
        listener = asyncio.create_task(hang_up(receive, work, events))
        try:
            await start(send, 200)
            await write(send, [{"prompt_tokens": prompt_tokens(work)}])
            await self.pass_on(send, events, len(work.rows))
        finally:
            work.cancel()
            listener.cancel()

    def accept(self, ask: dict[str, Any], put: Callable[[dict], None]) -> Work:
        """Queue a request. Raises ApiError 404 for a version that is not here, 400, or 429."""
        if (loaded := self.shelf.get(ask["version"])) is None:
            raise ApiError(404, "version_not_loaded", "The engine does not hold this version.", param="model")
        work = Work(loaded, self.rows_for(loaded, ask, put), lambda error: put(error.body))
        self.batcher.submit(work)
        return work

    async def pass_on(self, send: Callable, events: asyncio.Queue, rows: int) -> None:
        """Write events until every row has finished, one has failed, or the caller is gone."""
        while rows:
            batch = await next_events(events)
            if GONE in batch:
                return
            rows -= sum("finish" in event for event in batch)
            await write(send, batch)
            if any("error" in event for event in batch):
                return await end(send)
        await write(send, [{"done": True}])
        await end(send)


async def next_events(events: asyncio.Queue) -> list[dict[str, Any]]:
    """Everything that is there; a sign of life when nothing comes for a while."""
    try:
        batch = [await asyncio.wait_for(events.get(), ALIVE_SECONDS)]
    except TimeoutError:
        return [{"waiting": True}]
    while not events.empty():
        batch.append(events.get_nowait())
    return batch


async def hang_up(receive: Callable, work: Work, events: asyncio.Queue) -> None:
    """When the caller leaves, free its rows before the next step."""
    while (await receive())["type"] != "http.disconnect":
        pass
    work.cancel()
    events.put_nowait(GONE)


def prompt_tokens(work: Work) -> list[int]:
    """The length of each prompt, once however many answers it gets."""
    return [len(ids) for ids in {id(row.prompt): row.prompt for row in work.rows}.values()]


async def read(receive: Callable) -> dict[str, Any]:
    raw, more = b"", True
    while more and len(raw) <= LARGEST_BODY:
        message = await receive()
        raw += message.get("body", b"")
        more = message.get("more_body", False)
    try:
        return json.loads(raw)
    except ValueError as error:
        raise ApiError(400, "invalid_json", "The gateway sent no JSON.") from error


async def reply(send: Callable, status: int, body: dict[str, Any]) -> None:
    await start(send, status)
    await write(send, [body])
    await end(send)


async def start(send: Callable, status: int) -> None:
    headers = [(b"content-type", b"application/x-ndjson")]
    await send({"type": "http.response.start", "status": status, "headers": headers})


async def write(send: Callable, lines: list[dict[str, Any]]) -> None:
    """ASCII only: readers of lines break at characters such as U+2028 too."""
    body = "".join(json.dumps(line) + "\n" for line in lines).encode("ascii")
    await send({"type": "http.response.body", "body": body, "more_body": True})


async def end(send: Callable) -> None:
    await send({"type": "http.response.body", "body": b"", "more_body": False})
