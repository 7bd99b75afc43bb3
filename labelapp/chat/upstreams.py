"""Models behind somebody's OpenAI-compatible API: which addresses are allowed, and how an answer is streamed.

Only hosts that the server's operator has named are asked, and no redirect is followed: an admin of a project cannot
make this server talk to its neighbours. Keys stand in the environment, under names that begin with LABELAPP_UPSTREAM_.
"""

import json
import os
import re
from collections.abc import AsyncIterator
from typing import Any
from urllib.parse import urlsplit

import httpx
from django.conf import settings
from django.utils.translation import gettext as _

from labelapp.chat.refusals import BadUpstream, ModelFailed
from labelapp.models import UpstreamModel

KEY_VARIABLE = re.compile(r"LABELAPP_UPSTREAM_[A-Z0-9_]{1,60}", re.ASCII)
TIMEOUT = httpx.Timeout(connect=5, read=settings.UPSTREAM_SECONDS, write=10, pool=5)
MOST_BYTES = 2 * 1024 * 1024  # of one answer on the wire
MOST_LINE = 64 * 1024


def check_address(base_url: str) -> str:
    """The address without a slash at its end. Raises BadUpstream, naming what the operator would have to allow."""
    try:
        parts = urlsplit(base_url)
        host, port = parts.hostname or "", parts.port
    except ValueError as error:
        raise BadUpstream(_("%(url)s is not an address: %(why)s.") % {"url": base_url[:200], "why": error}) from None
    if parts.scheme not in ("http", "https") or not host or re.search(r"[\s\\\x00-\x20]", base_url):
        raise BadUpstream(_("%(url)s must begin with http:// or https:// and name a host.") % {"url": base_url[:200]})
    if parts.username is not None or parts.password is not None or parts.query or parts.fragment:
        raise BadUpstream(_("The address must have no user name, query or fragment; the key belongs in a variable."))
    host = f"[{host}]" if ":" in host else host
    port = port or (443 if parts.scheme == "https" else 80)
    if not {host, f"{host}:{port}"} & {allowed.strip().lower() for allowed in settings.UPSTREAM_HOSTS}:
        raise BadUpstream(
            _("%(host)s is not among the hosts that this server may ask. Its operator allows it with UPSTREAM_HOSTS.")
            % {"host": f"{host}:{port}"}
        )
    return base_url.rstrip("/")


def check_key_variable(name: str) -> str:
    """Raises BadUpstream unless the name is empty or one of those that hold keys of upstream models."""
    if name and not KEY_VARIABLE.fullmatch(name):
        raise BadUpstream(
            _("%(name)s cannot hold the key: name a variable such as LABELAPP_UPSTREAM_MISTRAL.") % {"name": name[:80]}
        )
    return name


def headers_for(upstream: UpstreamModel) -> dict[str, str]:
    """Raises ModelFailed where the variable that should hold the key is not set."""
    if not upstream.key_variable:
        return {}
    check_key_variable(upstream.key_variable)
    if not (key := os.environ.get(upstream.key_variable, "")):
        unset = _("%(name)s is not set in the server's environment.")
        raise ModelFailed(_("it is not set up"), unset % {"name": upstream.key_variable})
    return {"Authorization": f"Bearer {key}"}


async def stream(upstream: UpstreamModel, messages: list[dict], sampling: dict[str, Any]) -> AsyncIterator[dict]:
    """{"text": ...} and at last {"finish": ...}. Close it, or the other server keeps working. Raises ModelFailed."""
    body = {"model": upstream.model, "messages": messages, "stream": True, **sampling}
    try:
        url = f"{check_address(upstream.base_url)}/chat/completions"
        async with (
            httpx.AsyncClient(timeout=TIMEOUT, follow_redirects=False, trust_env=False) as client,
            client.stream("POST", url, json=body, headers=headers_for(upstream)) as response,
        ):
            await refuse_status(response)
            async for event in read_events(response):
                yield event
    except BadUpstream as error:
        raise ModelFailed(_("it is not set up"), str(error)) from error
    except httpx.TimeoutException as error:
        raise ModelFailed(_("it did not answer in time")) from error
    except (httpx.HTTPError, httpx.InvalidURL, UnicodeError) as error:
        raise ModelFailed(_("it cannot be reached"), f"{type(error).__name__}: {error}") from error


async def refuse_status(response: httpx.Response) -> None:
    if response.is_redirect:
        target = response.headers.get("location", "")[:200]
        redirect = _("It redirects to %(url)s; that is not followed.")
        raise ModelFailed(_("it refused to answer"), redirect % {"url": target})
    if response.status_code != 200:
        said = b""
        async for part in response.aiter_bytes(2048):
            said = part[:300]
            break
        raise ModelFailed(_("it refused to answer"), f"HTTP {response.status_code}: {said.decode(errors='replace')}")


async def read_events(response: httpx.Response) -> AsyncIterator[dict]:
    """The pieces of a stream of chat.completion.chunk objects. Raises ModelFailed where it is none, or ends early."""
    finish = ""
    async for line in lines(response):
        if not line.startswith("data:"):
            continue
        data = line[5:].strip()
        if data == "[DONE]":
            finish = finish or "stop"
            break
        text, finish = read_chunk(data, finish)
        if text:
            yield {"text": text}
    if not finish:
        raise ModelFailed(_("its answer broke off"))
    yield {"finish": finish}


def read_chunk(data: str, finish: str) -> tuple[str, str]:
    try:
        chunk = json.loads(data)
        if "error" in chunk:
            raise ModelFailed(_("it failed while it answered"), json.dumps(chunk["error"])[:300])
        choice = (chunk.get("choices") or [{}])[0]
        text = (choice.get("delta") or {}).get("content") or ""
        return (text if isinstance(text, str) else ""), str(choice.get("finish_reason") or finish)[:20]
    except (ValueError, TypeError, AttributeError, LookupError, RecursionError) as error:
        raise ModelFailed(_("it answered in a way that cannot be read"), data[:200]) from error


async def lines(response: httpx.Response) -> AsyncIterator[str]:
    """Lines of the body, of which nothing is kept beyond the limits. Raises ModelFailed."""
    waiting, total = b"", 0
    async for part in response.aiter_bytes():
        total += len(part)
        waiting += part
        *whole, waiting = waiting.split(b"\n")
        if total > MOST_BYTES or len(waiting) > MOST_LINE:
            raise ModelFailed(_("it said too much"), _("The stream is larger than %(n)d bytes.") % {"n": MOST_BYTES})
        for line in whole:
            yield line.decode(errors="replace").rstrip("\r")
    if waiting:
        yield waiting.decode(errors="replace")
