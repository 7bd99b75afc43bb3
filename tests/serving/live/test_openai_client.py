"""The official client against a real web process and a real engine."""

import openai
import pytest

from labelapp.accounts.keys import create_key, revoke_key
from tests.factories import make_project

HELLO = [{"role": "user", "content": "Argue that books are better than television."}]


def say(client, **options):
    return client.chat.completions.create(**{"model": "policy", "messages": HELLO, "max_tokens": 12, **options})


def test_an_answer_names_its_version_and_counts_its_tokens(served, client):
    raw = client.chat.completions.with_raw_response.create(model="policy", messages=HELLO, max_tokens=12)
    answer = raw.parse()

    assert answer.id.startswith("chatcmpl-")
    assert answer.system_fingerprint == answer.model == served.first.name == raw.headers["x-policy-version"]
    assert answer.choices[0].message.role == "assistant"
    assert answer.choices[0].finish_reason in ("stop", "length")
    assert answer.usage.total_tokens == answer.usage.prompt_tokens + answer.usage.completion_tokens
    assert 0 < answer.usage.completion_tokens <= 12 and answer.usage.prompt_tokens > 5
    assert answer._request_id.startswith("req_")
    assert int(raw.headers["x-ratelimit-remaining-requests"]) > 0


def test_a_stream_says_what_the_whole_answer_says(client):
    whole = say(client, seed=5, max_tokens=60)

    chunks = list(say(client, seed=5, max_tokens=60, stream=True, stream_options={"include_usage": True}))

    assert chunks[0].choices[0].delta.role == "assistant"
    text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
    assert text == whole.choices[0].message.content
    assert [c.choices[0].finish_reason for c in chunks if c.choices][-1] == whole.choices[0].finish_reason
    assert chunks[-1].choices == [] and chunks[-1].usage == whole.usage
    assert all(chunk.usage is None for chunk in chunks[:-1])
    assert {chunk.id for chunk in chunks} == {chunks[0].id}


def test_a_seed_repeats_an_answer_whoever_shares_its_batch(client):
    alone = say(client, seed=7, max_tokens=40).choices[0].message.content

    together = say(client, seed=7, max_tokens=40, n=4)

    assert together.choices[0].message.content == alone
    assert len({choice.message.content for choice in together.choices}) > 1
    assert [choice.index for choice in together.choices] == [0, 1, 2, 3]


def test_a_stop_string_ends_the_answer_and_stays_out_of_it(client):
    text = say(client, temperature=0, max_tokens=30, logit_bias={"70": 5}).choices[0].message.content
    stop = text[10:12]

    stopped = say(client, temperature=0, max_tokens=30, logit_bias={"70": 5}, stop=[stop, "never"]).choices[0]

    assert stopped.finish_reason == "stop"
    assert stopped.message.content == text[: text.index(stop)]


def test_log_probabilities_are_those_of_the_greedy_choice(client):
    choice = say(client, temperature=0, max_tokens=5, logprobs=True, top_logprobs=3).choices[0]

    assert len(choice.logprobs.content) == 5
    for token in choice.logprobs.content:
        assert len(token.top_logprobs) == 3
        assert token.logprob == max(top.logprob for top in token.top_logprobs) < 0


def test_a_text_can_be_continued_and_its_tokens_scored(client):
    scored = client.completions.create(
        model="policy", prompt=["Books are good", "He said"], max_tokens=0, echo=True, logprobs=1
    )

    assert [choice.text for choice in scored.choices] == ["Books are good", "He said"]
    logprobs = scored.choices[0].logprobs
    assert logprobs.token_logprobs[0] is None and all(p < 0 for p in logprobs.token_logprobs[1:])
    assert "".join(logprobs.tokens) == "Books are good" and logprobs.text_offset[0] == 0
    assert scored.usage.completion_tokens == 0

    continued = client.completions.create(model="policy", prompt="Books are good", max_tokens=5, echo=True)
    assert continued.choices[0].text.startswith("Books are good")
    assert continued.usage.completion_tokens <= 5


def test_a_text_streams_too(client):
    chunks = list(client.completions.create(model="policy", prompt="Books", max_tokens=8, seed=1, stream=True))

    assert chunks[-1].choices[0].finish_reason in ("stop", "length")


def test_models_are_the_alias_and_what_is_loaded(served, client):
    ids = [model.id for model in client.models.list()]

    assert ids[0] == "policy" and {served.first.name, served.second.name} <= set(ids)
    assert client.models.retrieve("policy").version == served.first.name
    assert client.models.retrieve(served.second.name).object == "model"


def test_a_loaded_version_answers_under_its_own_name(served, client):
    assert say(client, model=served.second.name).system_fingerprint == served.second.name


def test_another_projects_models_do_not_exist_for_this_key(served):
    stranger = make_project()
    _, token = create_key(project=stranger, name="stranger")
    client = served.client(token)

    assert list(client.models.list()) == []
    for model in ("policy", served.first.name):
        with pytest.raises(openai.NotFoundError) as refused:
            say(client, model=model)
        assert refused.value.code == "model_not_found" and refused.value.param == "model"


def test_a_revoked_key_opens_nothing_from_the_next_request_on(served):
    key, token = create_key(project=served.project, name="short-lived")
    say(served.client(token))
    key.refresh_from_db()
    assert key.last_used_at is not None

    revoke_key(key=key)

    with pytest.raises(openai.AuthenticationError) as refused:
        say(served.client(token))
    assert refused.value.code == "invalid_api_key"


def test_a_prompt_beyond_the_context_is_refused_with_both_numbers(client):
    with pytest.raises(openai.BadRequestError) as refused:
        say(client, messages=[{"role": "user", "content": "books " * 4000}], max_tokens=10)

    assert refused.value.code == "context_length_exceeded"
    assert "4096" in refused.value.message and "10 in the completion" in refused.value.message


def test_parts_and_all_roles_are_understood(client):
    messages = [
        {"role": "developer", "content": "Be brief."},
        {"role": "user", "content": [{"type": "text", "text": "Books"}, {"type": "text", "text": "?"}]},
        {"role": "assistant", "content": "Yes."},
        {"role": "tool", "content": "42", "tool_call_id": "x"},
    ]
    assert say(client, messages=messages, tools=[], user="me", metadata={"a": "b"}).choices
