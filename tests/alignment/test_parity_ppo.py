"""PPO equals TRL's last release that had it, by its numbers in golden/ppo.json: a whole step, and each formula.

Where a token ends a completion the two differ by intent: there the score comes one step after the end token, and the
value of that step is learnt too. The formulas are then compared on TRL's own rewards and masks.
"""

import json

import pytest
import torch

from alignment.config import PPOConfig, build
from alignment.losses.policy import clipped_policy, kl_estimate, log_ratio, loss_weights
from alignment.losses.value import clipped_value_loss, clipped_values
from alignment.models.checkpoints import load_policy, load_reward
from alignment.ppo import accumulate, estimate
from alignment.sampling.advantage import generalized_advantages, whiten
from alignment.sampling.rollouts import rollout_logprobs, rows_of
from alignment.sampling.values import PolicyAndValue
from tests.alignment.golden import HERE, fingerprint, gradients
from tests.alignment.ppo_models import make_models

GOLDEN = json.loads((HERE / "ppo.json").read_text())


def tensors_of(case: str) -> dict[str, torch.Tensor]:
    return {name: torch.tensor(value) for name, value in GOLDEN[case]["rollout"].items()}


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    return make_models(tmp_path_factory.mktemp("ppo"))


@pytest.fixture
def model(models):
    return PolicyAndValue(load_policy(models / "policy"), load_reward(models / "value"))


@pytest.fixture
def config():
    theirs = GOLDEN["cut"]["settings"]
    return build(PPOConfig, {
        "prompts": "p.jsonl", "sampling": {"prompts": 16, "max_new_tokens": 6},
        "kl": {"beta": theirs["kl_coef"]}, "clip": {"low": theirs["cliprange"], "high": theirs["cliprange"]},
        "value": {"coefficient": theirs["vf_coef"], "clip": theirs["cliprange_value"]},
        "advantage": {"gamma": theirs["gamma"], "gae_lambda": theirs["lam"]},
    })  # fmt: skip


def our_rollout() -> dict[str, torch.Tensor]:
    """TRL's rollout of completions that met the limit: padding moves from the left to the right."""
    theirs, rows = tensors_of("cut"), []
    assert not theirs["padding_mask"].any()
    for ids, old, reference in zip(theirs["query_responses"], theirs["logprobs"], theirs["ref_logprobs"], strict=True):
        padding = int((ids != 0).int().argmax())
        prompt = theirs["context_length"] - padding
        around = (int(prompt), padding)
        rows.append([ids.roll(-padding), *(torch.nn.functional.pad(t, around) for t in (old, reference)), prompt])
    ids, old, reference, prompts = (torch.stack(column) for column in zip(*rows, strict=True))
    return {"ids": ids, "old": old, "reference": reference, "prompt_tokens": prompts, "tokens": prompts + 6,
            "finished": torch.zeros(len(ids)).bool(), "reward": theirs["scores"]}  # fmt: skip


def completions_of(aligned: torch.Tensor, rollout: dict[str, torch.Tensor]) -> torch.Tensor:
    return torch.stack([row[start : start + 6] for row, start in zip(aligned, rollout["prompt_tokens"], strict=True)])


def test_log_probabilities_values_advantages_and_returns_of_a_rollout_equal_trl_s(model, models, config):
    rollout, theirs = our_rollout(), tensors_of("cut")
    for path, name in (("policy", "logprobs"), ("reference", "ref_logprobs")):
        ours = rollout_logprobs(load_policy(models / path), rollout, 1.0)
        assert torch.allclose(completions_of(ours, rollout), theirs[name], atol=1e-5)
    learnt = estimate(model.value, rollout, config, beta=config.kl.beta)
    for ours, name in (("value", "values"), ("advantage", "whitened"), ("value_return", "returns")):
        assert torch.allclose(completions_of(learnt[ours], rollout), theirs[name], atol=1e-5)


def test_the_loss_and_the_gradients_of_the_first_minibatch_equal_trl_s(model, config):
    rollout, theirs = our_rollout(), GOLDEN["cut"]["steps"][0]
    rollout |= estimate(model.value, rollout, config, beta=config.kl.beta)
    stats = accumulate(model, rows_of(rollout, theirs["micro_batch_inds"]), config, untouched=True)
    assert abs(stats.policy_loss - theirs["pg_loss"]) <= 1e-5
    assert abs(stats.value_loss - theirs["vf_loss"]) <= 1e-5
    assert abs(stats.loss - theirs["loss"]) <= 1e-5
    for name, part in (("policy", model.policy), ("value", model.value)):
        gradient, allowed = gradients(part), 1e-4 * theirs[f"{name}_gradient_norm"]
        assert abs(gradient.norm().item() - theirs[f"{name}_gradient_norm"]) <= allowed
        difference = torch.tensor(fingerprint(gradient)) - torch.tensor(theirs[f"{name}_fingerprint"])
        assert difference.abs().max().item() <= allowed


@pytest.mark.parametrize("case", ["ended", "cut"])
def test_every_minibatch_s_losses_and_clip_shares_equal_trl_s(case):
    rollout, settings = tensors_of(case), GOLDEN[case]["settings"]
    clip, value_clip = settings["cliprange"], settings["cliprange_value"]
    clipped = 0.0
    for step in GOLDEN[case]["steps"]:
        rows = step["micro_batch_inds"]
        tokens, states = ~rollout["padding_mask"][rows], ~rollout["padding_mask_p1"][rows]
        ratios = log_ratio(torch.tensor(step["new_logprobs"]), rollout["logprobs"][rows], tokens)
        policy = clipped_policy(ratios, rollout["whitened"][rows], clip_low=clip, clip_high=clip)
        assert abs((policy * loss_weights(tokens, "token_mean")).sum().item() - step["pg_loss"]) <= 1e-5
        moved = torch.tensor(step["vpred"]), rollout["values"][rows], rollout["returns"][rows]
        value = clipped_value_loss(*moved, clip=value_clip)
        assert abs((value * loss_weights(states, "token_mean")).sum().item() - step["vf_loss"]) <= 1e-5
        share = clipped_values(*moved, clip=value_clip)[states].float().mean().item()
        assert share == pytest.approx(step["vf_clipfrac"], abs=1e-6)
        clipped += share
    assert clipped > 0  # else the clip was never compared


@pytest.mark.parametrize("case", ["ended", "cut"])
def test_the_advantages_of_the_same_rewards_equal_trl_s(case):
    rollout, settings = tensors_of(case), GOLDEN[case]["settings"]
    states = ~rollout["padding_mask_p1"]
    values = torch.nn.functional.pad(rollout["values"], (0, 1))
    advantages, returns = generalized_advantages(
        rollout["rewards"], values, states, gamma=settings["gamma"], gae_lambda=settings["lam"])  # fmt: skip
    tokens = ~rollout["padding_mask"]
    assert torch.allclose(advantages[states], rollout["advantages"][states], atol=1e-5)
    assert torch.allclose(returns[states], rollout["returns"][states], atol=1e-5)
    assert torch.allclose(whiten(advantages, tokens)[tokens], rollout["whitened"][tokens], atol=1e-5)


def test_rewards_with_the_kl_of_each_token_and_their_whitening_equal_trl_s():
    rollout, settings = tensors_of("ended"), GOLDEN["ended"]["settings"]
    tokens, states = ~rollout["padding_mask"], ~rollout["padding_mask_p1"]
    assert tokens.sum(1).unique().numel() > 1  # completions of several lengths
    kl = kl_estimate(rollout["logprobs"], rollout["ref_logprobs"], "k1")
    last = (states.sum(1) - 1)[:, None]  # one step after the end token, where there is room
    expected = (-settings["kl_coef"] * kl).scatter_add(1, last, rollout["scores"][:, None])
    assert torch.allclose(expected, rollout["rewards_before"], atol=1e-5)
    assert torch.allclose(whiten(expected, states, shift_mean=False), rollout["rewards"], atol=1e-5)
