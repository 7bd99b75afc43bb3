"""Policy gradients on a server's rollouts: as on our own, corrected for what differs, resumed after its loss."""

import json
import shutil
from dataclasses import replace

import pytest
import torch

from alignment import grpo, ppo
from alignment.config import CONFIGS, EXIT_BAD_INPUT, EXIT_DONE, EXIT_STOPPED, Input, JobError, build
from alignment.data.text import load_tokenizer
from alignment.guards import Baseline
from alignment.losses.policy import loss_weights
from alignment.models.checkpoints import load_policy, save_checkpoint
from alignment.online import collect, open_setting
from alignment.sampling.rollouts import batch_logprobs, batch_of, rollout_logprobs
from alignment.sampling.values import PolicyAndValue, value_from_policy
from tests.alignment.rollout_servers import StandIn
from tests.alignment.snapshots import make_job, metrics_of, user
from tests.alignment.stages import run
from tests.tiny_models import make_tiny_policy

CONTAINS_E = {"terms": [{"kind": "contains", "pattern": "e"}]}
LORA = {"rank": 8, "alpha": 16.0}


@pytest.fixture(scope="module")
def parent(tmp_path_factory):
    """A policy with so large a head that an adapter, which leaves the head alone, can change what it says."""
    path = tmp_path_factory.mktemp("models")
    make_tiny_policy(path / "policy")
    model = load_policy(path / "policy")
    with torch.no_grad():
        model.get_output_embeddings().weight *= 8
    return Input(str(path / "loud"), save_checkpoint(model, load_tokenizer(path / "policy"), path / "loud", {}))


@pytest.fixture(scope="module")
def process(parent):
    found = StandIn(parent.path)
    yield found
    found.stop()


@pytest.fixture
def server(process):
    process.reset()
    return process


def config_of(folder, standing: StandIn, **options) -> dict:
    path = folder / "prompts.jsonl"
    path.write_text("".join(json.dumps({"id": i, "messages": user(f"Question {i}?")}) + "\n" for i in range(24)))
    place = {"url": standing.url, "directory": str(folder / "weights"), "patience_seconds": 0.3}
    place |= options.pop("server", {})
    sampling = {"prompts": 4, "completions": 4, "max_new_tokens": 8, "server": place, **options.pop("sampling", {})}
    plan = {"learning_rate": 3e-3, "warmup_share": 0.0, "epochs": 100, **options.pop("plan", {})}
    return {"prompts": str(path), "sampling": sampling, "reward": CONTAINS_E, "optimization": plan, **options}


def rollout_of(stage, tmp_path, parent, server, **options):
    """(setting, config, a rollout that a server sampled)."""
    raw = config_of(tmp_path, server, **options)
    config = build(CONFIGS[stage], raw)
    setting = open_setting(make_job(stage, tmp_path / "out", raw, parent=parent), config)
    return setting, config, collect(setting, config, seed=0, number=0, baseline=Baseline())


def gradients(model) -> torch.Tensor:
    return torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None])


@pytest.mark.parametrize("options", [{}, {"lora": LORA, "plan": {"learning_rate": 3e-2}}], ids=["weights", "lora"])
def test_the_reward_rises_on_a_server_s_rollouts(tmp_path, parent, server, options):
    plan = {"max_steps": 30, **options.pop("plan", {})}
    sampling = {"prompts": 8, "completions": 8}
    config = config_of(tmp_path, server, sampling=sampling, kl={"beta": 0.02}, plan=plan, **options)
    exit_code, result = run(make_job("grpo", tmp_path / "out", config, parent=parent), tmp_path)
    assert exit_code == EXIT_DONE, result
    lines = metrics_of(tmp_path / "out")
    assert sum(line["reward"] for line in lines[:3]) / 3 < 0.45
    assert sum(line["reward"] for line in lines[-3:]) / 3 > 0.65
    assert max(line["held_out_reward"] for line in lines if "held_out_reward" in line) > 0.5
    assert max(line["sampler_difference_max_nats"] for line in lines) < 1e-3  # the same weights in every rollout
    assert {line["staleness"] for line in lines} == {line["truncated_share"] for line in lines} == {0.0}
    assert max(line["ratio_difference"] for line in lines) < 1e-4
    shown = json.loads((tmp_path / "out" / "checkpoint" / "card.json").read_text())["config"]["sampling"]["server"]
    assert shown["importance_cap"] == 2.0 and not {"url", "directory", "key_variable"} & set(shown)


@pytest.mark.parametrize("loss", ["grpo", "gspo", "rloo"])
def test_the_same_tokens_teach_the_same_whoever_sampled_them(tmp_path, parent, server, loss):
    setting, config, made = rollout_of("grpo", tmp_path, parent, server, loss=loss)
    assert {"sampled", "importance", "version"} <= set(made.tensors)
    advantage = grpo.group_relative(made.tensors["reward"], config)
    ours = {name: t for name, t in made.tensors.items() if name not in {"sampled", "importance", "version"}}
    ours["old"] = rollout_logprobs(setting.model, ours, 1.0)
    found = []
    for tensors in (made.tensors, ours):
        model = load_policy(parent.path)
        stats = grpo.accumulate(model, {**tensors, "advantage": advantage}, config, beta=0.1, untouched=True)
        found.append((stats.loss, gradients(model)))
    (loss_there, there), (loss_here, here) = found
    assert loss_there == pytest.approx(loss_here, abs=1e-4)
    assert (there - here).norm() <= 1e-4 * here.norm()
    assert here.norm() > 0


def test_each_token_of_grpo_counts_by_its_importance(tmp_path, parent, server):
    _, config, made = rollout_of("grpo", tmp_path, parent, server, kl={"beta": 0.0})
    at = batch_of(made.tensors).completion
    advantage = torch.linspace(-1, 1, len(at))
    importance = torch.linspace(0.5, 2, at.numel()).view(at.shape)
    tensors = {**made.tensors, "advantage": advantage, "importance": importance}
    model = load_policy(parent.path)
    stats = grpo.accumulate(model, tensors, config, beta=0.0, untouched=True, tokens=60)
    weights = loss_weights(at, "sequence_mean") * importance * -advantage[:, None]  # every ratio is 1
    assert stats.loss == pytest.approx(weights.sum().item(), abs=1e-5)
    other = load_policy(parent.path)
    (weights * batch_logprobs(other, batch_of(made.tensors), 1.0)).sum().backward()
    assert torch.allclose(gradients(model), gradients(other), atol=1e-5)


def test_each_token_of_ppo_counts_by_its_importance_and_the_value_does_not(tmp_path, parent, server):
    raw = {"value": {"source": "policy"}, "sampling": {"completions": 2}}
    setting, config, made = rollout_of("ppo", tmp_path, parent, server, **raw)
    model = PolicyAndValue(setting.model, value_from_policy(parent.path))
    made.tensors["reward"] = torch.linspace(-1, 1, len(made.completions))
    tensors = {**made.tensors, **ppo.estimate(model.value, made.tensors, config, beta=0.0)}
    at = batch_of(tensors).completion
    tensors["weights"], tensors["importance"] = loss_weights(at, "token_mean"), torch.full(at.shape, 1.0)
    values = {"value": tensors["value"]}
    plain = ppo.losses(tensors["old"], values, tensors, config)
    tensors["importance"] = torch.linspace(0.5, 2, at.numel()).view(at.shape)
    policy, value = ppo.losses(tensors["old"], values, tensors, config)
    by_hand = -(tensors["weights"] * tensors["importance"] * tensors["advantage"]).sum()
    assert policy.item() == pytest.approx(by_hand.item(), abs=1e-6)
    assert policy.item() != pytest.approx(plain[0].item(), abs=1e-3)
    assert value.item() == plain[1].item() > 0


@pytest.mark.parametrize(
    ("stage", "options"),
    [
        ("ppo", {"value": {"source": "policy"}, "lora": LORA}),
        ("safe", {"cost": {"terms": [{"kind": "contains", "pattern": "a"}]}, "precision": "bf16"}),
        ("safe_ppo", {"value": {"source": "policy"}, "cost": {"terms": [{"kind": "contains", "pattern": "a"}]}}),
        ("grpo", {"server": {"max_staleness": 1, "sleep": True}, "sampling": {"passes": 2, "temperature": 0.7},
                  "reward": {"terms": [{"kind": "length", "words": 3}]}}),
    ],
)  # fmt: skip
def test_every_stage_with_rollouts_takes_them_from_a_server(tmp_path, parent, server, stage, options):
    config = config_of(tmp_path, server, plan={"max_steps": 6, "batch_size": 8}, **options)
    exit_code, result = run(make_job(stage, tmp_path / "out", config, parent=parent), tmp_path)
    assert exit_code == EXIT_DONE, result
    lines = metrics_of(tmp_path / "out")
    assert len(lines) == 6
    exact = lines[0]["sampler_difference_max_nats"]
    assert exact < (0.5 if options.get("precision") == "bf16" else 1e-3)
    if stage == "grpo":
        assert [line["staleness"] for line in lines] == [0, 0, 0, 0, 1, 1]
        assert lines[-1]["sampler_difference_nats"] > 10 * exact  # the policy moved on, and that is corrected
        assert server.told()["asleep"]


def test_our_own_samples_need_no_weights(tmp_path, parent):
    (tmp_path / "prompts.jsonl").write_text(json.dumps({"id": 0, "messages": user("Why?")}) + "\n")
    sampling = {"prompts": 2, "completions": 2, "max_new_tokens": 4}
    raw = {"prompts": str(tmp_path / "prompts.jsonl"), "sampling": sampling, "reward": CONTAINS_E}
    setting = open_setting(make_job("grpo", tmp_path / "out", raw, parent=parent), build(CONFIGS["grpo"], raw))
    made = collect(setting, build(CONFIGS["grpo"], raw), seed=0, number=0, baseline=Baseline())
    assert not {"importance", "sampled", "version"} & set(made.tensors)
    assert not {"staleness", "truncated_share"} & set(made.figures)


def test_a_run_whose_server_keeps_old_weights_ends_with_a_sentence(tmp_path, parent, server):
    server.lie(ignore_reload=True)
    config = config_of(tmp_path, server, plan={"max_steps": 6})
    exit_code, result = run(make_job("grpo", tmp_path / "out", config, parent=parent), tmp_path)
    assert (exit_code, result["status"]) == (EXIT_BAD_INPUT, "failed")
    assert "given the weights of rollout 1 and answers with those of rollout 0" in result["reason"]
    assert len(metrics_of(tmp_path / "out")) == 1


def test_a_run_that_lost_its_server_goes_on_with_another_as_if_nothing_had_happened(tmp_path, parent):
    first = StandIn(parent.path)
    config = config_of(tmp_path, first, plan={"max_steps": 8, "checkpoint_every": 100, "batch_size": 8})
    whole, out, again = (make_job("grpo", tmp_path / name, config, parent=parent) for name in ("whole", "out", "again"))
    try:
        _, expected = run(whole, tmp_path)
        first.reset()
        first.lie(dies_after=10)  # in the middle of the third rollout: each has four requests
        exit_code, result = run(out, tmp_path)
        assert (exit_code, result["status"], result["code"]) == (EXIT_STOPPED, "stopped", "server_lost")
        assert f"the rollout server {first.url} is lost" in result["reason"]
        assert [line["step"] for line in metrics_of(tmp_path / "out")] == [1, 2, 3, 4]
        shutil.rmtree(tmp_path / "weights")
        second = StandIn(parent.path, first.port)
    finally:
        first.stop()
    try:
        exit_code, result = run(replace(again, resume_from=out.output), tmp_path)
        assert exit_code == EXIT_DONE, result
        asked = second.told()["asked"]
    finally:
        second.stop()
    assert asked[0] == "/collective_rpc"  # the weights come first: the server was started with the parent's
    assert [line["step"] for line in metrics_of(tmp_path / "again")] == [5, 6, 7, 8]
    assert result["checkpoint"]["sha256"] == expected["checkpoint"]["sha256"]


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"url": "127.0.0.1:8000"}, "server.url is '127.0.0.1:8000': http://HOST:PORT"),
        ({"url": "http://me:secret@host"}, "without a path or a password"),
        ({"url": "file:///etc/passwd"}, "server.url"),
        ({"url": "http://host:99999"}, "server.url"),
        ({"directory": "weights"}, "an absolute path that trainer and server share"),
        ({"importance_cap": 0.5}, "at least 1"),
        ({"max_staleness": -1}, "0 or more rollouts"),
        ({"max_difference_nats": 0}, "a positive number of nats"),
        ({"timeout_seconds": 0}, "server.timeout_seconds"),
        ({"patience_seconds": -1}, "server.patience_seconds"),
        ({"model": ""}, "--served-model-name"),
        ({"weights": "lora"}, "Server has no field 'weights'"),
    ],
)
def test_a_server_that_cannot_be_meant_is_refused(change, sentence):
    place = {"url": "http://127.0.0.1:8000", "directory": "/tmp/weights", **change}
    with pytest.raises(JobError, match=sentence):
        build(CONFIGS["grpo"], {"sampling": {"server": place}})


@pytest.mark.parametrize("stage", ["online_dpo", "best_of_n"])
def test_a_stage_that_corrects_for_nothing_takes_no_server(stage):
    place = {"url": "http://127.0.0.1:8000", "directory": "/tmp/weights"}
    with pytest.raises(JobError, match="only grpo, ppo, safe and safe_ppo take their rollouts from a server"):
        build(CONFIGS[stage], {"sampling": {"server": place}})
