"""The /v1 routes. Every answer, refusals too, carries x-request-id; every refusal is the OpenAI error envelope."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from functools import wraps
from typing import Any
from uuid import uuid4

import structlog
from asgiref.sync import sync_to_async
from django.conf import settings
from django.db import InterfaceError, OperationalError, connections
from django.http import HttpRequest, HttpResponse, JsonResponse, StreamingHttpResponse
from django.views.decorators.csrf import csrf_exempt

from labelapp.accounts import keys
from labelapp.datasets.strict_json import BadJson, decode
from labelapp.models import ApiKey, Version
from labelapp.serving import gateway, lookup, protocol
from labelapp.serving.answers import Chat, Completion, Shape, event_line, stream_lines
from labelapp.serving.errors import ApiError, invalid, model_not_ready
from labelapp.serving.limits import Buckets, RateExceeded

log = structlog.get_logger(__name__)
PING_SECONDS = 15
MOST_VALUES = 100_000  # in the JSON of one body
buckets = Buckets(settings.API_REQUESTS_PER_MINUTE)


def endpoint(method: str) -> Callable:
    """View decorator: one method, a valid key, a place in the key's quota; whatever happens, an envelope."""

    def decorate(view: Callable) -> Callable:
        @csrf_exempt
        @wraps(view)
        async def answer(request: HttpRequest, **path: str) -> HttpResponse:
            request.id = f"req_{uuid4().hex}"
            try:
                response = await guarded(request, method, view, path)
            except ApiError as error:
                response = refusal(error)
            except (OperationalError, InterfaceError):
                log.exception("database is away", request_id=request.id)
                response = refusal(ApiError(503, "unavailable", "The database does not answer.", retry_after=2))
            except Exception:
                log.exception("request failed", request_id=request.id, path=request.path)
                response = refusal(ApiError(500, "internal_error", "The server failed. It has been logged."))
            response["x-request-id"] = request.id
            if response.status_code >= 400:
                log.info("refused", request_id=request.id, path=request.path, status=response.status_code)
            return response

        return answer

    return decorate


async def guarded(request: HttpRequest, method: str, view: Callable, path: dict[str, str]) -> HttpResponse:
    if request.method != method:
        raise ApiError(405, "method_not_allowed", f"{request.method} is not allowed here; use {method}.")
    key = await authenticate(request)
    quota = buckets.take(key.pk)
    try:
        response = await view(request, key, **path)
    except ApiError as error:
        response = refusal(error)
    for name, value in quota.headers.items():
        response[name] = value
    return response


async def authenticate(request: HttpRequest) -> ApiKey:
    try:
        return await keys.averify(keys.bearer_token(request))
    except keys.KeyRefused as error:
        raise ApiError(401, "invalid_api_key", str(error)) from error


def refusal(error: ApiError) -> HttpResponse:
    response = JsonResponse(error.body, status=error.status)
    response._has_been_logged = True  # Django's own line has no request id
    if error.retry_after is not None:
        response["Retry-After"] = str(error.retry_after)
    if error.status == 401:
        response["WWW-Authenticate"] = 'Bearer realm="labelapp"'
    if isinstance(error, RateExceeded):
        for name, value in error.quota.headers.items():
            response[name] = value
    return response


@csrf_exempt
async def unknown_route(request: HttpRequest, **path: str) -> HttpResponse:
    response = refusal(ApiError(404, "unknown_url", f"There is no {request.method} {request.path[:200]} here."))
    response["x-request-id"] = f"req_{uuid4().hex}"
    return response


@endpoint("GET")
async def models(request: HttpRequest, key: ApiKey) -> HttpResponse:
    return JsonResponse({"object": "list", "data": await lookup.list_models(key.project)})


@endpoint("GET")
async def model(request: HttpRequest, key: ApiKey, model: str) -> HttpResponse:
    return JsonResponse(await lookup.one_model(key.project, model))


@endpoint("POST")
async def chat_completions(request: HttpRequest, key: ApiKey) -> HttpResponse:
    return await answer(request, key, protocol.parse_chat(read_body(request)), Chat)


@endpoint("POST")
async def completions(request: HttpRequest, key: ApiKey) -> HttpResponse:
    return await answer(request, key, protocol.parse_completion(read_body(request)), Completion)


def read_body(request: HttpRequest) -> dict[str, Any]:
    """The body as JSON. Reads at most the limit, whatever Content-Length claims. Raises ApiError 400, 413."""
    limit = settings.DATA_UPLOAD_MAX_MEMORY_SIZE
    raw = request.read(limit + 1)
    if len(raw) > limit:
        raise ApiError(413, "request_too_large", f"The body is larger than {limit} bytes.")
    try:
        return decode(raw, most=MOST_VALUES)
    except BadJson as error:
        code = "invalid_value" if error.path else "invalid_json"
        raise invalid(error.path or None, f"{error.path or 'The body'}: {error}.", code) from error


async def answer(request: HttpRequest, key: ApiKey, ask: protocol.Ask, shape_of: type[Shape]) -> HttpResponse:
    version, found = await start(key, ask)
    shape = shape_of(
        version=version.name,
        prompt_tokens=found.prompt_tokens,
        rows=len(ask.prompts) * ask.n,
        logprobs=ask.sampling.logprobs is not None,
        usage=ask.include_usage,
    )
    log.info("generation", request_id=request.id, key=key.key_id, answer=shape.id, version=version.name)
    if ask.stream:
        response = StreamingHttpResponse(Stream(shape, found, request.id), content_type="text/event-stream")
        response["Cache-Control"], response["X-Accel-Buffering"] = "no-cache", "no"
    else:
        response = JsonResponse(await collect(shape, found))
    response["x-policy-version"] = version.name
    return response


async def start(key: ApiKey, ask: protocol.Ask) -> tuple[Version, gateway.Answer]:
    """The version that answers, and its accepted generation. Raises ApiError.

    Between our reading of the alias and the engine's reading of our request a version may have been unloaded; then
    the alias has moved, and is read once more. What is still not there is being loaded.
    """
    for _ in range(2):
        version = await lookup.resolve(key.project, ask.model)
        await sync_to_async(connections.close_all)()  # an answer takes seconds, and connections are few
        try:
            return version, await gateway.generate(ask.for_engine(version.digest))
        except ApiError as error:
            if error.code != "version_not_loaded":
                raise
    raise model_not_ready(f"the engine is loading {version.name}, or could not")


async def collect(shape: Shape, found: gateway.Answer) -> dict[str, Any]:
    """The whole answer. When the client leaves, this task is cancelled and the engine hears it."""
    try:
        async for event in found.events():
            shape.take(event)
        return shape.whole()
    finally:
        await found.close()


class Stream:
    """The answer as server-sent events, with a comment every 15 s so that nobody in between hangs up."""

    def __init__(self, shape: Shape, found: gateway.Answer, request_id: str) -> None:
        self.shape, self.found, self.request_id = shape, found, request_id

    async def __aiter__(self) -> AsyncIterator[bytes]:
        lines = stream_lines(self.shape, self.found.events())
        try:
            async for line in with_pings(lines):
                yield line
        except ApiError as error:
            log.warning("stream broke", request_id=self.request_id, answer=self.shape.id, code=error.code)
            yield event_line(error.body)  # and no [DONE]: the client must not take this for an end
        finally:
            await self.found.close()


async def with_pings(lines: AsyncIterator[bytes], seconds: float = PING_SECONDS) -> AsyncIterator[bytes]:
    """The lines, and a comment whenever nothing came for so long."""
    pending = asyncio.ensure_future(anext(lines, None))
    try:
        while True:
            done, _ = await asyncio.wait({pending}, timeout=seconds)
            if not done:
                yield b": ping\n\n"
                continue
            if (line := pending.result()) is None:
                return
            yield line
            pending = asyncio.ensure_future(anext(lines, None))
    finally:
        pending.cancel()
        with contextlib.suppress(asyncio.CancelledError, ApiError, StopAsyncIteration):
            await pending
