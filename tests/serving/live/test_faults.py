"""Callers who leave, a full queue, and an engine that dies: nobody hangs and no place is lost."""

import contextlib

import httpx
import openai
import pytest
from django.conf import settings

from tests import servers
from tests.serving.live.test_openai_client import HELLO, say

END = "1"  # the tiny tokenizer's end token, made impossible: these answers run for as long as they may
ENDLESS = {"max_tokens": 4000, "logit_bias": {END: -100}, "stream": True}


def engine_state() -> dict:
    with httpx.Client(transport=httpx.HTTPTransport(uds=settings.ENGINE_SOCKET)) as client:
        return client.get("http://engine/healthz").json()


def engine_is_idle() -> bool:
    return engine_state()["rows"] == 0


def test_a_caller_who_leaves_frees_the_row_at_once(client):
    servers.wait_until(engine_is_idle, what="an idle engine")
    before = engine_state()["steps"]
    stream = say(client, **ENDLESS)
    next(iter(stream))
    assert engine_state()["rows"] == 1

    stream.close()

    servers.wait_until(engine_is_idle, what="the row's end")
    assert engine_state()["steps"] - before < 3000


def test_a_caller_who_cannot_wait_frees_the_row_too(served):
    servers.wait_until(engine_is_idle, what="an idle engine")
    before = engine_state()["steps"]
    with pytest.raises(openai.APITimeoutError):
        say(served.client(timeout=0.5), **{**ENDLESS, "stream": False, "n": 4})

    servers.wait_until(engine_is_idle, what="the rows' end")
    assert engine_state()["steps"] - before < 3000


def test_a_full_queue_refuses_at_once_and_recovers(served, client):
    with contextlib.ExitStack() as streams:
        for _ in range(5):  # 5 times 16 answers: all that may run or wait
            streams.enter_context(say(client, n=16, **ENDLESS))
        with pytest.raises(openai.RateLimitError) as refused:
            say(client)
        assert refused.value.code == "rate_limit_exceeded"
        assert int(refused.value.response.headers["Retry-After"]) >= 1
        assert refused.value.response.headers["x-ratelimit-limit-requests"]

    servers.wait_until(engine_is_idle, what="the rows' end")
    assert say(client).choices


@pytest.mark.faults
def test_an_engine_that_dies_ends_streams_with_an_error_and_comes_back_with_what_was_promoted(served, client):
    stream = say(client, **ENDLESS)
    next(stream)
    with raw_stream(served) as response:
        lines = response.iter_lines()
        assert next(lines).startswith("data: {")
        served.engine.close()
        rest = [line for line in lines if line]

    # On the wire: one error object, and no [DONE] after it. In the client: its own exception.
    assert rest[-1].startswith('data: {"error":{"message":') and "data: [DONE]" not in rest
    assert response.headers["x-request-id"] and response.headers["content-type"] == "text/event-stream"
    with pytest.raises(openai.APIError, match="engine failed"):
        list(stream)
    with pytest.raises(openai.InternalServerError) as refused:
        say(client)
    assert refused.value.code == "model_not_ready"
    assert int(refused.value.response.headers["Retry-After"]) >= 1

    served.start_engine()

    assert say(client).system_fingerprint == served.deployment.version.name


def raw_stream(served):
    body = {"model": "policy", "messages": HELLO, **ENDLESS}
    headers = {"Authorization": f"Bearer {served.token}"}
    return httpx.stream("POST", f"{served.url}/v1/chat/completions", json=body, headers=headers, timeout=30)
