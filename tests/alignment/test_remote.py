"""Rollouts from a server: what it says is taken exactly, and every lie of a stand-in for vLLM is told in a sentence."""

import json
import time
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from alignment.config import JobError, Lora, ServerLost, build
from alignment.config.online import Sampling
from alignment.models.adapters import attach
from alignment.models.checkpoints import load_policy
from alignment.sampling.correction import correct
from alignment.sampling.remote import RemoteSampler, nearest_version
from alignment.sampling.rollouts import batch_of, read_prompts, rollout_logprobs, rollout_tensors
from tests.alignment.rollout_servers import StandIn
from tests.alignment.snapshots import user

TEXTS = ["Why?", "Argue that books are better than television.", "Go on, please."]


@pytest.fixture(scope="module")
def process(parent):
    found = StandIn(parent.path)
    yield found
    found.stop()


@pytest.fixture
def server(process):
    process.reset()
    return process


@pytest.fixture
def prompts(tmp_path, tokenizer):
    path = tmp_path / "prompts.jsonl"
    path.write_text("".join(json.dumps({"id": f"p{i}", "messages": user(t)}) + "\n" for i, t in enumerate(TEXTS)))
    return read_prompts(str(path), None, tokenizer, room=200)


@pytest.fixture
def sampler(server, policy, tokenizer, prompts, tmp_path):
    return RemoteSampler(policy, tokenizer, how_of(server, tmp_path).server, prompts)


def how_of(server, folder, **options) -> Sampling:
    sampling = {name: options.pop(name) for name in ("temperature", "max_new_tokens") if name in options}
    given = {"url": server.url, "directory": str(folder / "weights"), "patience_seconds": 0.4, **options}
    return build(Sampling, {"prompts": 3, "completions": 4, "max_new_tokens": 12, **sampling, "server": given})


def ask(sampler, prompts, number=0, **options):
    how = Sampling(prompts=3, completions=4, max_new_tokens=12, **options)
    return sampler(sampler.model, sampler.tokenizer, prompts, how, seed=7, occasion=[number, 0])


def move(model, size=0.05) -> None:
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter += size * torch.randn(parameter.shape, generator=generator)


def differences(sampler, made, temperature=1.0) -> torch.Tensor:
    """Between the server's log-probabilities and the trainer's, of every sampled token."""
    tensors = rollout_tensors(made, sampler.tokenizer.pad_token_id, sampler.model.device)
    ours = rollout_logprobs(sampler.model, tensors, temperature)
    return (ours - tensors["old"])[batch_of(tensors).completion].abs()


@pytest.mark.parametrize("temperature", [1.0, 0.7])
def test_tokens_and_log_probabilities_are_those_that_the_server_says(sampler, server, prompts, temperature):
    made = ask(sampler, prompts, temperature=temperature)
    assert [one.prompt.id for one in made] == [f"p{i}" for i in range(3) for _ in range(4)]
    assert len({tuple(one.sample.ids) for one in made}) == 12
    assert differences(sampler, made, temperature).max() <= 1e-4
    assert {one.sample.version for one in made} == {0}
    asked = [request for request in server.told()["requests"] if request.get("return_token_ids")]
    assert sorted(request["prompt"] for request in asked) == sorted(prompt.ids for prompt in prompts)
    assert {(request["n"], request["top_p"], request["temperature"]) for request in asked} == {(4, 1.0, temperature)}


def test_each_rollout_is_sampled_with_its_own_weights(sampler, server, prompts):
    for number in range(3):
        made = ask(sampler, prompts, number)
        assert {one.sample.version for one in made} == {number}
        assert differences(sampler, made).max() <= 1e-4
        move(sampler.model)
    asked = server.told()["asked"]
    assert asked.count("/collective_rpc") == asked.count("/reset_prefix_cache") == 3


def test_an_adapter_is_given_under_a_new_name_each_time_and_the_one_before_is_forgotten(
    server, tokenizer, prompts, tmp_path, parent
):
    model = attach(load_policy(parent.path), Lora(rank=4, alpha=8.0), seed=0)
    sampler = RemoteSampler(model, tokenizer, how_of(server, tmp_path).server, prompts)
    names = []
    for number in range(3):
        made = ask(sampler, prompts, number)
        assert {one.sample.version for one in made} == {number}
        assert differences(sampler, made).max() <= 1e-4
        names.append(sampler.loaded.name)
        assert server.told()["adapters"] == [names[-1]]
        move(model, 0.2)
    assert len(set(names)) == 3
    assert [path.name for path in (tmp_path / "weights").iterdir()] == [names[-1]]
    assert "/collective_rpc" not in server.told()["asked"]


def test_the_same_prompt_twice_is_answered_in_other_words(sampler, prompts):
    made = ask(sampler, [prompts[0], prompts[0]])
    assert len({tuple(one.sample.ids) for one in made}) == 8


def test_a_server_without_versions_is_still_measured(sampler, server, prompts):
    server.lie(old_vllm=True)
    assert {one.sample.version for one in ask(sampler, prompts, 0)} == {0}
    move(sampler.model)
    assert {one.sample.version for one in ask(sampler, prompts, 1)} == {1}


@pytest.mark.parametrize(
    ("lie", "sentence"),
    [
        ({"no_logprobs": True}, "one log-probability a token: start vLLM with --max-logprobs 1"),
        ({"no_token_ids": True}, "no token_ids.*return_token_ids"),
        ({"no_prompt_logprobs": True}, "no prompt_logprobs"),
        ({"other_model": True}, "asked for the model 'policy' and answered as 'other'"),
        ({"wrong_end": True}, "ended a completion with the token [1-5][0-9],.*--generation-config vllm"),
        ({"no_dev_mode": True}, "refuses /collective_rpc .*VLLM_SERVER_DEV_MODE=1"),
    ],
)
def test_an_answer_that_cannot_be_learnt_from_is_refused_with_what_is_missing(sampler, server, prompts, lie, sentence):
    server.lie(**lie)
    with pytest.raises(JobError, match=sentence):
        ask(sampler, prompts)


def test_a_server_without_adapters_is_told_what_it_lacks(server, tokenizer, prompts, tmp_path, parent):
    server.lie(no_lora=True)
    model = attach(load_policy(parent.path), Lora(rank=4), seed=0)
    with pytest.raises(JobError, match="VLLM_ALLOW_RUNTIME_LORA_UPDATING=True and --enable-lora"):
        ask(RemoteSampler(model, tokenizer, how_of(server, tmp_path).server, prompts), prompts)


@pytest.mark.parametrize("lie", ["ignore_reload", "keep_version"])
def test_stale_weights_are_found_whatever_the_server_says_of_them(sampler, server, prompts, lie):
    ask(sampler, prompts, 0)
    server.lie(**{lie: True})
    before = sampler.probe_logprobs()
    move(sampler.model, 0.002)
    assert (sampler.probe_logprobs() - before).abs().mean() < 0.02  # a small step, and yet it is seen
    with pytest.raises(JobError, match="given the weights of rollout 1 and answers with those of rollout 0"):
        ask(sampler, prompts, 1)


def test_a_stale_adapter_is_found_too(server, tokenizer, prompts, tmp_path, parent):
    model = attach(load_policy(parent.path), Lora(rank=4, alpha=8.0), seed=0)
    sampler = RemoteSampler(model, tokenizer, how_of(server, tmp_path).server, prompts)
    ask(sampler, prompts, 0)
    server.lie(ignore_reload=True)
    move(model, 0.2)
    with pytest.raises(JobError, match="answers with those of rollout 0"):
        ask(sampler, prompts, 1)


def test_staleness_within_its_bound_is_used_and_counted(server, policy, tokenizer, prompts, tmp_path):
    how = how_of(server, tmp_path, max_staleness=2).server
    sampler = RemoteSampler(policy, tokenizer, how, prompts)
    versions = []
    for number in range(5):
        made = ask(sampler, prompts, number)
        versions.append(made[0].sample.version)
        tensors = rollout_tensors(made, tokenizer.pad_token_id, policy.device)
        told = correct(tensors, rollout_logprobs(policy, tensors, 1.0), made, how, number)
        assert told["staleness"] == number - versions[-1]
        assert tensors["version"].tolist() == [versions[-1]] * 12
        move(policy)
    assert versions == [0, 0, 0, 3, 3]  # it gets new weights before it is more than two rollouts behind
    assert server.told()["asked"].count("/collective_rpc") == 2


def test_staleness_over_its_bound_is_refused(server, policy, tokenizer, prompts, tmp_path):
    sampler = RemoteSampler(policy, tokenizer, how_of(server, tmp_path, max_staleness=1).server, prompts)
    ask(sampler, prompts, 0)
    server.lie(ignore_reload=True)
    for number in (1, 2):
        move(policy)
        if number == 2:
            with pytest.raises(JobError, match="at most 1 rollouts are allowed"):
                ask(sampler, prompts, number)
        else:
            ask(sampler, prompts, number)


def test_log_probabilities_of_another_temperature_are_refused(server, policy, tokenizer, prompts, tmp_path):
    server.lie(raw_logprobs=True)
    how = how_of(server, tmp_path, temperature=0.5)
    move(policy, 0.3)  # a random policy says nearly the same at every temperature
    sampler = RemoteSampler(policy, tokenizer, how.server, prompts)
    made = ask(sampler, prompts, temperature=0.5)
    tensors = rollout_tensors(made, tokenizer.pad_token_id, policy.device)
    with pytest.raises(JobError, match="processed_logprobs"):
        correct(tensors, rollout_logprobs(policy, tensors, 0.5), made, how.server, 0)


def test_a_server_of_another_model_is_refused(tmp_path, server, policy, tokenizer, prompts):
    server.lie(ignore_reload=True)  # so that it stays with what it serves
    move(policy, 0.5)
    sampler = RemoteSampler(policy, tokenizer, how_of(server, tmp_path).server, prompts)
    with pytest.raises(JobError, match="does it serve this job's parent"):
        ask(sampler, prompts)


def test_a_name_that_the_server_does_not_serve_is_refused(tmp_path, server, policy, tokenizer, prompts):
    sampler = RemoteSampler(policy, tokenizer, how_of(server, tmp_path, model="llama").server, prompts)
    with pytest.raises(JobError, match="does not know the model 'llama'"):
        ask(sampler, prompts)


def test_a_short_failure_is_waited_for(sampler, server, prompts):
    sampler.how = replace(sampler.how, patience_seconds=30)
    server.lie(refuses=1)
    assert len(ask(sampler, prompts)) == 12
    server.lie(break_off=1)
    assert len(ask(sampler, prompts, 1)) == 12
    assert len(list(Path(sampler.how.directory).iterdir())) == 1  # what failed tries wrote is gone


def test_no_weights_are_written_for_a_server_that_is_not_there(policy, tokenizer, prompts, tmp_path, parent):
    gone = StandIn(parent.path)
    gone.stop()
    sampler = RemoteSampler(policy, tokenizer, how_of(gone, tmp_path).server, prompts)
    with pytest.raises(ServerLost, match="Connection refused"):
        ask(sampler, prompts)
    assert not (tmp_path / "weights").exists()


def test_a_server_that_was_started_again_gets_the_weights_again(sampler, server, prompts):
    sampler.how = replace(sampler.how, patience_seconds=30)
    move(sampler.model)
    server.lie(forgets=2)  # in the middle of a rollout
    made = ask(sampler, prompts)
    assert differences(sampler, made).max() <= 1e-4
    assert server.told()["asked"].count("/collective_rpc") == 2


def test_an_adapter_that_a_server_forgot_is_given_again(server, tokenizer, prompts, tmp_path, parent):
    model = attach(load_policy(parent.path), Lora(rank=4, alpha=8.0), seed=0)
    move(model, 0.2)
    sampler = RemoteSampler(model, tokenizer, how_of(server, tmp_path, patience_seconds=30).server, prompts)
    server.lie(forgets=2)
    assert differences(sampler, ask(sampler, prompts)).max() <= 1e-4


def test_a_slow_server_is_not_waited_for_forever(sampler, server, prompts, tmp_path):
    ask(sampler, prompts)
    how = how_of(server, tmp_path, timeout_seconds=0.3).server
    slow = RemoteSampler(sampler.model, sampler.tokenizer, how, prompts)
    server.lie(slow=1.0)
    started = time.monotonic()
    with pytest.raises(ServerLost, match=r"127.0.0.1.*did not answer /collective_rpc in time"):
        ask(slow, prompts, 1)
    assert time.monotonic() - started < 10


def test_a_server_sleeps_while_the_trainer_trains(server, policy, tokenizer, prompts, tmp_path):
    sampler = RemoteSampler(policy, tokenizer, how_of(server, tmp_path, sleep=True).server, prompts)
    for number in range(2):
        ask(sampler, prompts, number)
        told = server.told()
        assert told["asleep"]
    assert told["asked"].count("/wake_up") == told["asked"].count("/sleep?level=1") == 2
    assert told["asked"][0] == "/wake_up" and told["asked"][-1] == "/sleep?level=1"


def test_the_key_comes_from_the_environment(server, policy, tokenizer, prompts, tmp_path, monkeypatch):
    how = how_of(server, tmp_path, key_variable="ROLLOUT_KEY").server
    with pytest.raises(JobError, match="no ROLLOUT_KEY"):
        RemoteSampler(policy, tokenizer, how, prompts)
    monkeypatch.setenv("ROLLOUT_KEY", "secret")
    ask(RemoteSampler(policy, tokenizer, how, prompts), prompts)
    assert {request["authorization"] for request in server.told()["requests"]} == {"Bearer secret"}


def test_only_what_is_clearly_nearer_to_older_weights_is_stale():
    old, now = torch.zeros(4), torch.tensor([1.0, -1.0, 1.0, -1.0])
    assert nearest_version(now + 0.3, now, 5, {3: old}) == 5  # rounding
    assert nearest_version(old + 0.3, now, 5, {3: old}) == 3
    assert nearest_version(old + 0.3, now, 5, {2: old + 1.3, 3: old}) == 3  # the nearest of two
    assert nearest_version(now + 50, now, 5, {3: old}) == 5  # another model, but no older one
    assert nearest_version(now, now, 5, {3: now}) == 5  # nothing has changed: nothing can be stale
