"""Hand out a file in pieces, as either server interface wants it: never a whole file in memory."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from wsgiref.util import FileWrapper

from django.core.handlers.asgi import ASGIRequest
from django.http import (
    HttpRequest,
    HttpResponse,
    HttpResponseNotModified,
    StreamingHttpResponse,
)
from django.utils.cache import patch_cache_control
from django.utils.http import parse_etags, quote_etag

PIECE = 256 * 1024
TYPES = {".jsonl": "application/x-ndjson", ".json": "application/json"}


def send_file(request: HttpRequest, path: Path, *, name: str, sha256: str) -> HttpResponse:
    """The file as a download called `name`, with its SHA-256 as ETag; 304 where the client has these bytes."""
    etag = quote_etag(sha256)
    if etag in parse_etags(request.headers.get("If-None-Match", "")):
        return HttpResponseNotModified(headers={"ETag": etag})
    headers = {
        "Content-Type": TYPES[path.suffix],
        "Content-Length": str(path.stat().st_size),
        "Content-Disposition": f'attachment; filename="{name}"',
        "ETag": etag,
    }
    response = _response(request, path, headers)
    patch_cache_control(response, private=True, no_cache=True)
    return response


def _response(request: HttpRequest, path: Path, headers: dict[str, str]) -> HttpResponse:
    if isinstance(request, ASGIRequest):  # Django would read a synchronous iterator to its end first
        return StreamingHttpResponse(_pieces(path), headers=headers)
    return StreamingHttpResponse(FileWrapper(open(path, "rb"), PIECE), headers=headers)


async def _pieces(path: Path) -> AsyncIterator[bytes]:
    file = await asyncio.to_thread(open, path, "rb")
    try:
        while piece := await asyncio.to_thread(file.read, PIECE):
            yield piece
    finally:
        file.close()
