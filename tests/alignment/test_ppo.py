"""Proximal policy optimisation: the first minibatch is on-policy, neither cut nor padding changes a gradient."""

import json

import pytest
import torch
from torch.autograd import gradcheck

from alignment import ppo
from alignment.config import CONFIGS, Input, build
from alignment.guards import Baseline
from alignment.models.checkpoints import load_reward, reward_from_policy, save_checkpoint, score_head
from alignment.models.scores import scores_of
from alignment.online import collect, open_setting
from alignment.sampling.rollouts import batch_of, rows_of
from alignment.sampling.values import PolicyAndValue, rollout_values, value_from_policy
from tests.alignment.golden import gradients
from tests.alignment.snapshots import make_job, metrics_of, user
from tests.alignment.stages import run
from tests.tiny_models import make_tiny_reward

RULE = {"terms": [{"kind": "contains", "pattern": "e"}]}
SMALL = {"prompts": 4, "completions": 2, "max_new_tokens": 12, "passes": 2}
WORDS = ["books", "schools", "cities", "rivers", "people", "teachers", "gardens", "children"]


@pytest.fixture
def prompts(tmp_path):
    path = tmp_path / "prompts.jsonl"
    rows = [{"id": word, "messages": user(f"Argue that {word} help.")} for word in WORDS]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


@pytest.fixture
def reward(tmp_path, parent):
    return Input(str(tmp_path / "reward"), make_tiny_reward(tmp_path / "reward", parent.path))


def config_of(prompts, **changes):
    plan = {"learning_rate": 1e-2, "batch_size": 4, **changes.pop("optimization", {})}
    rule = {"prompts": prompts, "sampling": SMALL, "reward": RULE, "value": {"source": "policy"}}
    return {**rule, **changes, "optimization": plan}


@pytest.fixture
def rollout(tmp_path, parent, prompts):
    """(model, its config, the tensors of one rollout with some ended completions, ready to be learnt from)."""
    config = build(CONFIGS["ppo"], config_of(prompts))
    job = make_job("ppo", tmp_path / "out", {}, parent=parent)
    setting = open_setting(job, config)
    with torch.no_grad():  # an end token that is likely enough to be met
        setting.model.get_output_embeddings().weight[setting.tokenizer.eos_token_id] *= 12
    model = PolicyAndValue(setting.model, value_from_policy(parent.path))
    torch.nn.init.normal_(score_head(model.value).weight, generator=torch.Generator().manual_seed(0))
    tensors = collect(setting, config, seed=7, number=0, baseline=Baseline()).tensors
    assert tensors["finished"].any() and not tensors["finished"].all()
    return model, config, {**tensors, **ppo.estimate(model.value, tensors, config, beta=0.05)}


def accumulated(model, tensors, config, **how):
    model.zero_grad()
    stats = ppo.accumulate(model, tensors, config, **how)
    return stats, gradients(model)


def test_the_first_minibatch_is_on_policy_and_nothing_is_clipped(tmp_path, parent, prompts):
    run(make_job("ppo", tmp_path / "out", config_of(prompts), parent=parent), tmp_path)
    lines = metrics_of(tmp_path / "out")
    assert len(lines) == 8  # two rollouts of 8 completions, 2 passes of 2 minibatches
    for line in (lines[0], lines[4]):
        assert line["ratio_difference"] <= 1e-5
        assert line["clip_share"] == line["value_clip_share"] == 0
    assert all(line["ratio_difference"] > 1e-3 for line in (*lines[1:4], *lines[5:]))


def test_weights_that_did_not_sample_the_rollout_are_refused(rollout):
    model, config, tensors = rollout
    with torch.no_grad():
        model.policy.get_output_embeddings().weight.mul_(1.5)
    with pytest.raises(RuntimeError, match="on the same weights"):
        ppo.accumulate(model, tensors, config, untouched=True)


def test_neither_the_cut_into_passes_nor_padding_nor_the_order_of_rows_changes_a_gradient(rollout):
    model, config, tensors = rollout
    with torch.no_grad():  # away from the policy that sampled, so that every term has a gradient
        for parameter in model.parameters():
            parameter.mul_(1.1)
    stats, whole = accumulated(model, tensors, config)
    wide = {name: torch.nn.functional.pad(t, (0, 9)) if t.ndim == 2 else t for name, t in tensors.items()}
    turned = rows_of(tensors, list(range(len(tensors["tokens"])))[::-1])
    for other, how in ((tensors, {"tokens": 1}), (tensors, {"tokens": 90}), (wide, {}), (turned, {})):
        found, gradient = accumulated(model, other, config, **how)
        assert found == pytest.approx(stats, abs=1e-5)
        assert (gradient - whole).norm() <= 1e-5 * whole.norm()


def test_what_a_rollout_teaches_depends_on_neither_the_cut_nor_the_padding(rollout):
    model, config, tensors = rollout
    at = batch_of(tensors).completion
    wide = {name: torch.nn.functional.pad(t, (0, 9)) if t.ndim == 2 else t for name, t in tensors.items()}
    found = ppo.estimate(model.value, wide, config, beta=0.05)
    for name, values in found.items():
        assert torch.allclose(values[:, : at.shape[1]], tensors[name], atol=1e-5)
        assert not values[:, at.shape[1] :].any() and not tensors[name][~at].any()
    apart = rollout_values(model.value, tensors, tokens=1)[:, 1:-1][at[:, 1:]]
    assert torch.allclose(apart, rollout_values(model.value, tensors)[:, 1:-1][at[:, 1:]], atol=1e-5)


def test_advantages_are_whitened_over_the_whole_rollout(rollout):
    _, _, tensors = rollout
    inside = tensors["advantage"][batch_of(tensors).completion]
    assert inside.mean().abs() < 1e-6 and inside.var() == pytest.approx(1, abs=1e-5)
    half = rows_of(tensors, [0, 1, 2, 3])
    assert half["advantage"][batch_of(half).completion].mean().abs() > 1e-3


def test_only_a_completion_that_met_the_limit_goes_on_in_its_value(rollout, prompts):
    model, _, tensors = rollout
    on = build(CONFIGS["ppo"], config_of(prompts, advantage={"bootstrap_unfinished": True}))
    found = ppo.estimate(model.value, tensors, on, beta=0.05)["value_return"]
    changed = (found - tensors["value_return"]).abs().amax(1) > 1e-6
    assert torch.equal(changed, ~tensors["finished"])


def test_each_token_pays_for_its_own_distance_and_the_reward_comes_at_the_end(rollout, prompts):
    model, _, tensors = rollout
    torch.nn.init.zeros_(score_head(model.value).weight)
    plain = build(CONFIGS["ppo"], config_of(prompts, advantage={"gae_lambda": 1.0}))
    returns = ppo.estimate(model.value, tensors, plain, beta=0.5)["value_return"]
    paid = (0.5 * (tensors["old"] - tensors["reference"])).sum(1)
    first = returns.gather(1, tensors["prompt_tokens"][:, None])[:, 0]
    assert torch.allclose(first, tensors["reward"] - paid, atol=1e-4)  # with values of 0, a plain sum of rewards


@pytest.mark.parametrize("changes", [{}, {"clip": {"dual": 3.0}}, {"value": {"source": "policy", "clip": 0.0}}])
def test_the_derivative_of_both_losses_agrees_with_finite_differences(prompts, changes):
    config = build(CONFIGS["ppo"], config_of(prompts, **changes))
    draw = torch.Generator().manual_seed(1)
    old, value, advantage, returns, policy, values = torch.randn(6, 3, 4, generator=draw, dtype=torch.float64).unbind(0)
    weights = torch.full((3, 4), 1 / 12, dtype=torch.float64)
    tensors = {"old": old, "value": value, "advantage": advantage, "value_return": returns, "weights": weights}

    def loss(logprobs, states):
        return sum(ppo.losses(logprobs, {"value": states}, tensors, config))

    assert gradcheck(loss, (policy.clone().requires_grad_(), values.clone().requires_grad_()))


def test_the_value_model_starts_as_a_copy_of_the_reward_model_or_at_zero(tmp_path, parent, prompts, reward):
    job = make_job("ppo", tmp_path / "out", {}, parent=parent, reward=reward)
    setting = open_setting(job, build(CONFIGS["ppo"], config_of(prompts)))
    tensors = collect(setting, build(CONFIGS["ppo"], config_of(prompts)), seed=7, number=0, baseline=Baseline()).tensors
    copy = ppo.value_model(job, build(CONFIGS["ppo"], config_of(prompts, value={})), setting, [])
    last = rollout_values(copy, tensors).gather(1, tensors["tokens"][:, None])[:, 0]
    rows = [ids[:n].tolist() for ids, n in zip(tensors["ids"], tensors["tokens"].tolist(), strict=True)]
    scores = scores_of(load_reward(reward.path), [rows], setting.tokenizer.pad_token_id)[:, 0].tolist()
    assert last.tolist() == pytest.approx(scores, abs=1e-5)
    assert not rollout_values(value_from_policy(parent.path), tensors).any()


def test_it_learns_what_a_rule_rewards(tmp_path, parent, prompts):
    sampling = {"prompts": 8, "completions": 4, "max_new_tokens": 8, "passes": 2}
    plan = {"learning_rate": 1e-2, "batch_size": 16, "epochs": 13, "checkpoint_every": 1000}
    config = config_of(prompts, sampling=sampling, kl={"beta": 0.01}, optimization=plan)
    code, _ = run(make_job("ppo", tmp_path / "out", config, parent=parent), tmp_path)
    rewards = [line["reward"] for line in metrics_of(tmp_path / "out")[::4]]
    assert code == 0
    assert sum(rewards[:3]) / 3 < 0.45 and sum(rewards[-3:]) / 3 > 0.75


def test_the_value_model_begins_as_the_head_that_the_reward_reads(tmp_path, parent, tokenizer, prompts):
    model = reward_from_policy(parent.path, ["reward#0", "reward#1", "cost"])
    given = Input(str(tmp_path / "reward"), save_checkpoint(model, tokenizer, tmp_path / "reward", {}))
    job, weight = make_job("ppo", tmp_path / "out", {}, parent=parent, reward=given), score_head(model).weight
    for head, expected in (("reward", weight[:2].mean(0)), ("cost", weight[2])):
        reward = {"terms": [{"kind": "model", "head": head}]}
        config = build(CONFIGS["ppo"], config_of(prompts, value={}, reward=reward))
        one = score_head(ppo.value_model(job, config, open_setting(job, config), config.reward.terms)).weight
        assert one.shape == (1, weight.shape[1]) and torch.allclose(one[0], expected)
