"""The web's side of the wire to the engine: one HTTP request, answered by JSON lines. Never loads torch.

Lines are `{"prompt_tokens": [..]}` once, then `{"row", "text", "logprobs"}` and `{"row", "finish", "tokens"}`, then
`{"done": true}`; or `{"error": {..}}`. `{"waiting": true}` says only that the engine is alive.
"""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import suppress
from typing import Any
from weakref import WeakKeyDictionary

import httpx
from django.conf import settings

from labelapp.serving.errors import ApiError, engine_failed, model_not_ready

# The engine says it is alive every 5 s, so 30 s of silence means it is not.
TIMEOUT = httpx.Timeout(connect=5, read=30, write=10, pool=5)
NO_LIMITS = httpx.Limits(max_connections=None, max_keepalive_connections=8)

_clients: WeakKeyDictionary[asyncio.AbstractEventLoop, httpx.AsyncClient] = WeakKeyDictionary()


def client() -> httpx.AsyncClient:
    """One client an event loop: connections belong to the loop they were opened on."""
    loop = asyncio.get_running_loop()
    if loop not in _clients:
        socket = None if settings.ENGINE_URL else settings.ENGINE_SOCKET
        transport = httpx.AsyncHTTPTransport(uds=socket, limits=NO_LIMITS)
        _clients[loop] = httpx.AsyncClient(transport=transport, base_url=base_url(), timeout=TIMEOUT, trust_env=False)
    return _clients[loop]


def base_url() -> str:
    return settings.ENGINE_URL or "http://engine"


class Answer:
    """An accepted generation: its prompts' token counts, and its events. Close it, or the engine keeps working."""

    def __init__(self, response: httpx.Response, lines: AsyncIterator[str], prompt_tokens: list[int]) -> None:
        self.response, self.lines, self.prompt_tokens = response, lines, prompt_tokens

    async def events(self) -> AsyncIterator[dict[str, Any]]:
        """Events until the engine is done. Raises ApiError when it fails or goes away before that."""
        try:
            async for line in self.lines:
                event = json.loads(line)
                if "error" in event:
                    raise ApiError.from_body(500, event)
                if "done" in event:
                    return
                if "waiting" not in event:
                    yield event
        except (httpx.HTTPError, ValueError) as error:
            raise engine_failed() from error
        raise engine_failed()

    async def close(self) -> None:
        with suppress(httpx.HTTPError):
            await self.response.aclose()


async def generate(body: dict[str, Any]) -> Answer:
    """Ask the engine. Raises ApiError: its own refusals, 503 when nobody answers.

    The engine's answer `version_not_loaded` is passed on as such: the caller knows whether the alias has moved.
    """
    request = client().build_request("POST", "/generate", json=body)
    try:
        response = await client().send(request, stream=True)
    except httpx.TransportError as error:
        raise model_not_ready("the engine is not running or is starting") from error
    try:
        return await accepted(response)
    except BaseException:
        await response.aclose()
        raise


async def accepted(response: httpx.Response) -> Answer:
    try:
        if response.status_code != 200:
            raise ApiError.from_body(response.status_code, json.loads(await response.aread()))
        lines = response.aiter_lines()
        return Answer(response, lines, json.loads(await anext(lines))["prompt_tokens"])
    except (httpx.HTTPError, ValueError, KeyError, StopAsyncIteration) as error:
        raise engine_failed() from error
