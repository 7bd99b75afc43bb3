"""What a client sees when it asks for what cannot be: always the envelope, never a 500."""

import contextlib
import http.client
import json
import socket
from urllib.parse import urlsplit

import httpx
import openai
import pytest

CHAT = {"model": "policy", "messages": [{"role": "user", "content": "Books?"}], "max_tokens": 4}
DEEP = b'{"model": "policy", "messages": ' + b"[" * 100_000 + b"]" * 100_000 + b"}"


@pytest.fixture(scope="module")
def web(served):
    with httpx.Client(base_url=served.url, headers={"Authorization": f"Bearer {served.token}"}, timeout=30) as client:
        yield client


def envelope(response: httpx.Response) -> dict:
    """The error of a refusal that has all it must have."""
    assert response.headers["x-request-id"].startswith("req_")
    error = response.json()["error"]
    assert set(error) == {"message", "type", "param", "code"} and error["message"]
    return error


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"messages": []}, "messages"),
        ({"messages": "hello"}, "messages"),
        ({"messages": [3]}, "messages[0]"),
        ({"messages": [{"role": "robot", "content": "x"}]}, "messages[0].role"),
        ({"messages": [{"role": "user", "content": 3}]}, "messages[0].content"),
        ({"messages": [{"role": "user", "content": [{"type": "image_url"}]}]}, "messages[0].content[0]"),
        ({"temperature": 3}, "temperature"),
        ({"temperature": "hot"}, "temperature"),
        ({"temperature": True}, "temperature"),
        ({"top_p": 2}, "top_p"),
        ({"n": 0}, "n"),
        ({"n": 100_000}, "n"),
        ({"max_tokens": -1}, "max_tokens"),
        ({"max_completion_tokens": 1.5}, "max_completion_tokens"),
        ({"stop": ["a", "b", "c", "d", "e"]}, "stop"),
        ({"stop": 5}, "stop"),
        ({"top_logprobs": 2}, "top_logprobs"),
        ({"logprobs": True, "top_logprobs": 21}, "top_logprobs"),
        ({"logprobs": 3}, "logprobs"),
        ({"seed": "x"}, "seed"),
        ({"seed": 10**30}, "seed"),
        ({"presence_penalty": -3}, "presence_penalty"),
        ({"frequency_penalty": 3}, "frequency_penalty"),
        ({"logit_bias": {"x": 1}}, "logit_bias"),
        ({"logit_bias": {"1": 101}}, "logit_bias"),
        ({"stream": "yes"}, "stream"),
        ({"stream_options": {"include_usage": True}}, "stream_options"),
        ({"model": 3}, "model"),
        ({"messages": [{"role": "user", "content": "nul \u0000"}]}, "messages[0].content"),
    ],
)
def test_a_value_out_of_range_is_400_and_named(web, fields, param):
    response = web.post("/v1/chat/completions", json={**CHAT, **fields})

    error = envelope(response)
    assert (response.status_code, error["code"], error["param"]) == (400, "invalid_value", param)
    assert error["type"] == "invalid_request_error"


@pytest.mark.parametrize("field", ["model", "messages"])
def test_a_missing_field_is_400_and_named(web, field):
    response = web.post("/v1/chat/completions", json={k: v for k, v in CHAT.items() if k != field})

    error = envelope(response)
    assert (response.status_code, error["param"], error["code"]) == (400, field, "missing_required_parameter")


@pytest.mark.parametrize(
    "fields",
    [
        {"tools": [{"type": "function"}]},
        {"response_format": {"type": "json_object"}},
        {"audio": {"voice": "x"}},
        {"lora_path": "/etc/passwd"},
        {"chat_template": "{{ 7*7 }}"},
    ],
)
def test_what_is_not_supported_is_said_and_not_ignored(web, fields):
    response = web.post("/v1/chat/completions", json={**CHAT, **fields})

    error = envelope(response)
    assert (response.status_code, error["code"], error["param"]) == (400, "unsupported_parameter", next(iter(fields)))


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"[]",
        b'"text"',
        b'{"model": "\xff"}',
        DEEP,
        b'{"seed": ' + b"9" * 5000 + b"}",
        b'{"model": "policy", "model": "other"}',
    ],
    ids=["empty", "cut", "list", "string", "not utf-8", "deep", "5000 digits", "twice"],
)
def test_what_is_no_json_object_is_400(web, body):
    response = web.post("/v1/chat/completions", content=body)

    assert response.status_code == 400 and envelope(response)["code"] == "invalid_json"


@pytest.mark.parametrize("number", [b"NaN", b"Infinity", b"1e999"])
def test_a_number_that_is_none_is_400_and_named(web, number):
    body = b'{"model": "policy", "messages": [{"role": "user", "content": "x"}], "temperature": ' + number + b"}"
    response = web.post("/v1/chat/completions", content=body)

    assert response.status_code == 400 and envelope(response)["param"] == "temperature"


def test_nesting_beyond_reason_is_400(web):
    body = {**CHAT, "metadata": {}}
    for _ in range(50):
        body["metadata"] = {"deeper": body["metadata"]}

    response = web.post("/v1/chat/completions", json=body)

    assert response.status_code == 400 and "nested" in envelope(response)["message"]


def test_half_a_surrogate_pair_is_400(web):
    response = web.post("/v1/completions", content=b'{"model": "policy", "prompt": "\\ud800"}')

    assert response.status_code == 400 and envelope(response)["param"] == "prompt"


def test_a_body_beyond_the_limit_is_413(web):
    response = web.post("/v1/chat/completions", content=b" " * (9 * 1024 * 1024))

    assert response.status_code == 413 and envelope(response)["code"] == "request_too_large"


def test_a_wrong_method_is_405_and_a_wrong_route_404(web):
    assert (found := web.get("/v1/chat/completions")).status_code == 405 and envelope(found)
    assert (found := web.post("/v1/models", json={})).status_code == 405 and envelope(found)
    assert (found := web.post("/v1/embeddings", json={})).status_code == 404 and envelope(found)
    assert (found := web.get("/v1/models/no/such%00model")).status_code == 404 and envelope(found)


@pytest.mark.parametrize("prompt", [None, "", [], [1, "x"], [[]], {"a": 1}, [10**9], ["x"] * 65])
def test_a_prompt_that_is_no_text_is_400(web, prompt):
    response = web.post("/v1/completions", json={"model": "policy", "prompt": prompt, "max_tokens": 1})

    if prompt == "":
        assert response.status_code == 200  # an empty text may be continued
    else:
        assert response.status_code == 400 and envelope(response)["param"] == "prompt"


HOSTILE = [
    b"", b" ", b"Bearer", b"Bearer ", b"Basic abc", b"Bearer '", b'Bearer " OR 1=1 --', b"Bearer lab_x_y",
    b"Bearer lab_", b"Bearer lab_00000000_" + b"A" * 43, b"Bearer lab_'; DROP TABLE labelapp_apikey; --",
    b"Bearer " + b"x" * 60_000,
    "Bearer lab_\u0661\u0661\u0661\u0661\u0661\u0661\u0661\u0661_".encode() + b"A" * 43,
    "Bearer \u202e\U0001f511".encode(), b"Bearer \xff\xfe",
]  # fmt: skip


def raw_get(served, credentials: bytes) -> http.client.HTTPResponse:
    """GET /v1/models with these bytes as credentials, which no client library would send."""
    address = urlsplit(served.url)
    connection = socket.create_connection((address.hostname, address.port), timeout=30)
    connection.sendall(b"GET /v1/models HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n")
    connection.sendall(b"Authorization: " + credentials + b"\r\n\r\n")
    response = http.client.HTTPResponse(connection)
    response.begin()
    return response


@pytest.mark.parametrize("credentials", HOSTILE)
def test_hostile_credentials_are_401(served, credentials):
    response = raw_get(served, credentials)

    assert response.status == 401 and json.load(response)["error"]["code"] == "invalid_api_key"
    assert response.headers["WWW-Authenticate"].startswith("Bearer") and response.headers["x-request-id"]


@pytest.mark.parametrize("credentials", [b"Bearer " + b"x" * 2**20, b"Bearer lab_\x00"], ids=["1 MB", "NUL"])
def test_what_is_no_header_is_refused_and_the_server_stands(served, client, credentials):
    with contextlib.suppress(OSError, http.client.HTTPException):  # cut off while it was still talking
        assert raw_get(served, credentials).status in (400, 401, 431)

    assert client.models.list().data


def test_the_client_raises_its_own_exceptions(served, client):
    with pytest.raises(openai.BadRequestError):
        client.chat.completions.create(**{**CHAT, "temperature": 3})
    with pytest.raises(openai.NotFoundError):
        client.chat.completions.create(**{**CHAT, "model": "gpt-4"})
    with pytest.raises(openai.AuthenticationError):
        served.client("lab_wrong").models.list()
