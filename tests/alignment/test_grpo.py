"""The stage grpo: it starts exactly on-policy, moves towards the reward, and can be cut anywhere without a trace."""

import json

import pytest
import torch

from alignment.config import EXIT_DONE, GRPOConfig, Input, JobError, build
from alignment.grpo import accumulate, group_relative, penalized_reward
from alignment.guards import Baseline
from alignment.losses.policy import VARIANTS
from alignment.models.checkpoints import load_policy, reward_from_policy, save_checkpoint
from alignment.online import collect, open_setting, reference_logprobs, step_counts
from alignment.sampling.advantage import group_advantages
from alignment.sampling.rollouts import rollout_logprobs
from tests.alignment.snapshots import make_job, metrics_of, planted_pairs, user, write_snapshot
from tests.alignment.stages import run
from tests.tiny_models import make_tiny_reward

CONTAINS_E = {"terms": [{"kind": "contains", "pattern": "e"}]}
SMALL = {"prompts": 4, "completions": 4, "max_new_tokens": 8}


def config_of(folder, **options) -> dict:
    path = folder / "prompts.jsonl"
    path.write_text("".join(json.dumps({"id": i, "messages": user(f"Question {i}?")}) + "\n" for i in range(24)))
    optimization = {"learning_rate": 3e-3, "warmup_share": 0.0, "epochs": 100, **options.pop("optimization", {})}
    return {"prompts": str(path), "sampling": SMALL, "reward": CONTAINS_E, "optimization": optimization, **options}


def setting_of(tmp_path, parent, **options):
    raw = config_of(tmp_path, **options)
    config = build(GRPOConfig, raw)
    return open_setting(make_job("grpo", tmp_path / "out", raw, parent=parent), config), config


def a_rollout(setting, config, number=0):
    made = collect(setting, config, seed=0, number=number, baseline=Baseline())
    rewards = penalized_reward(made, config, config.kl.beta)
    return {**made.tensors, "advantage": group_relative(rewards, config)}


def gradients(model) -> torch.Tensor:
    return torch.cat([p.grad.flatten() for p in model.parameters()])


def disturb(model, size=0.02) -> None:
    """Weights away from those that sampled, so that ratios differ from 1 and some are clipped."""
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += size * torch.randn(parameter.shape, generator=generator)


def test_advantages_of_a_group_by_hand():
    rewards = torch.tensor([[1.0, 2.0, 3.0, 6.0], [5.0, 5.0, 5.0, 5.0]])
    assert group_advantages(rewards, "centred").tolist() == [[-2, -1, 0, 3], [0, 0, 0, 0]]
    deviation = (14 / 3) ** 0.5
    expected = [a / (deviation + 1e-4) for a in (-2, -1, 0, 3)]
    assert group_advantages(rewards, "normalized")[0].tolist() == pytest.approx(expected)
    assert group_advantages(rewards, "normalized")[1].tolist() == [0, 0, 0, 0]  # nothing is divided by nothing
    by_hand = [1 - 11 / 3, 2 - 10 / 3, 3 - 9 / 3, 6 - 6 / 3]
    assert group_advantages(rewards, "leave_one_out")[0].tolist() == pytest.approx(by_hand, abs=1e-6)
    with pytest.raises(ValueError, match="at least 2"):
        group_advantages(rewards[:, :1], "centred")


@pytest.mark.parametrize("loss", VARIANTS)
def test_the_first_minibatch_of_a_rollout_is_exactly_on_policy(tmp_path, parent, loss):
    setting, config = setting_of(tmp_path, parent, loss=loss)
    stats = accumulate(setting.model, a_rollout(setting, config), config, beta=config.kl.beta, untouched=True)
    assert stats.ratio_difference <= 1e-5
    assert stats.clip_share == 0
    assert stats.kl_k3_nats == pytest.approx(0, abs=1e-6)  # the reference is the parent
    assert gradients(setting.model).norm() > 0


def test_a_step_on_changed_weights_is_not_mistaken_for_the_first(tmp_path, parent):
    setting, config = setting_of(tmp_path, parent)
    rollout = a_rollout(setting, config)
    disturb(setting.model)
    with pytest.raises(RuntimeError, match="sampler and trainer differ"):
        accumulate(setting.model, rollout, config, beta=0.0, untouched=True)


@pytest.mark.parametrize("loss", VARIANTS)
def test_neither_the_cut_nor_the_padding_nor_the_order_changes_the_gradient(tmp_path, parent, loss):
    setting, config = setting_of(tmp_path, parent, loss=loss, sampling={**SMALL, "learn_unfinished": loss != "dapo"})
    rollout = a_rollout(setting, config)
    rollout["finished"] = torch.arange(16) % 3 > 0  # few random completions end by themselves
    rollout["tokens"] = torch.minimum(rollout["tokens"], rollout["prompt_tokens"] + torch.arange(16) % 8 + 1)
    wide = {name: torch.nn.functional.pad(t, (0, 7)) if t.ndim == 2 else t for name, t in rollout.items()}
    turned = {name: t.flip(0) for name, t in rollout.items()}
    found = []
    for tensors, tokens in ((rollout, 10**9), (rollout, 1), (rollout, 60), (wide, 10**9), (turned, 60)):
        model = load_policy(parent.path)
        disturb(model)
        stats = accumulate(model, tensors, config, beta=0.1, tokens=tokens)
        found.append((stats, gradients(model)))
    first, expected = found[0]
    assert first.ratio_difference > 1e-3
    for stats, gradient in found[1:]:
        assert stats._asdict() == pytest.approx(first._asdict(), abs=1e-5)
        assert (gradient - expected).norm() <= 1e-4 * expected.norm()


def test_the_five_losses_are_five_different_gradients(tmp_path, parent):
    found = {}
    for loss in VARIANTS:
        setting, config = setting_of(tmp_path, parent, loss=loss)
        rollout = a_rollout(setting, config)
        rollout["tokens"] = torch.minimum(rollout["tokens"], rollout["prompt_tokens"] + torch.arange(16) % 8 + 1)
        disturb(setting.model)
        accumulate(setting.model, rollout, config, beta=0.0)
        found[loss] = torch.nn.functional.normalize(gradients(setting.model), dim=0)
    names = list(found)
    for i, first in enumerate(names):
        for second in names[i + 1 :]:
            assert found[first] @ found[second] < 0.9999, (first, second)


def test_unfinished_completions_teach_nothing_where_that_is_asked_for(tmp_path, parent):
    setting, config = setting_of(tmp_path, parent, sampling={**SMALL, "learn_unfinished": False})
    rollout = a_rollout(setting, config)
    rollout["finished"] = torch.zeros(16, dtype=torch.bool)
    accumulate(setting.model, rollout, config, beta=0.1)
    assert gradients(setting.model).abs().max() == 0


def test_the_kl_may_be_in_the_loss_or_in_the_reward(tmp_path, parent):
    for place in ("loss", "reward"):
        setting, config = setting_of(tmp_path, parent, kl={"beta": 0.5, "place": place})
        disturb(setting.model)  # the policy has left its reference
        made = collect(setting, config, seed=0, number=0, baseline=Baseline())
        paid = (made.tensors["reward"] - penalized_reward(made, config, 0.5)).mean().item()
        assert made.figures["kl_nats"] > 0
        assert paid == pytest.approx(0.5 * made.figures["kl_nats"] if place == "reward" else 0.0, rel=1e-4)


def test_uniform_groups_make_room_for_others(tmp_path, parent):
    once, config_once = setting_of(tmp_path, parent)
    often, config_often = setting_of(tmp_path, parent, sampling={**SMALL, "tries": 6})
    for number in range(4):
        few, many = (
            collect(setting, config, seed=0, number=number, baseline=Baseline())
            for setting, config in ((once, config_once), (often, config_often))
        )
        assert len(few.completions) == len(many.completions) == 16
        spread = [made.tensors["reward"].view(4, 4).std(1).gt(0).sum() for made in (few, many)]
        assert spread[1] >= spread[0]
        assert spread[1] == 4
    nobody = {"terms": [{"kind": "contains", "pattern": "never said by a random policy"}]}
    never, config = setting_of(tmp_path, parent, sampling={**SMALL, "tries": 3}, reward=nobody)
    made = collect(never, config, seed=0, number=0, baseline=Baseline())
    assert made.figures["uniform_share"] == 1.0
    assert len(made.completions) == 16  # the size of a rollout never changes


def test_with_an_adapter_the_parent_is_the_model_without_it(tmp_path, parent):
    setting, config = setting_of(tmp_path, parent, lora={"rank": 4})
    tensors = a_rollout(setting, config)
    before = rollout_logprobs(load_policy(parent.path), tensors, 1.0)
    with torch.no_grad():
        for parameter in (p for p in setting.model.parameters() if p.requires_grad):
            parameter += 0.1
    assert setting.reference is None
    assert torch.allclose(reference_logprobs(setting, tensors, 1.0), before, atol=1e-6)
    assert not torch.allclose(rollout_logprobs(setting.model, tensors, 1.0), before, atol=1e-2)


@pytest.mark.parametrize("stage", ["grpo", "ppo"])
def test_bf16_and_layers_that_run_again_train_an_adapter_too(tmp_path, parent, stage):
    config = config_of(
        tmp_path, precision="bf16", lora={"rank": 4}, sampling={**SMALL, "passes": 2},
        optimization={"max_steps": 4, "batch_size": 8, "activation_checkpointing": True},
    )  # fmt: skip
    config |= {"value": {"source": "policy"}} if stage == "ppo" else {}
    exit_code, result = run(make_job(stage, tmp_path / "out", config, parent=parent), tmp_path)
    assert exit_code == EXIT_DONE, result
    assert metrics_of(tmp_path / "out")[-1]["held_out_kl_nats"] != 0
    plain = load_policy(tmp_path / "out" / "checkpoint")  # merged
    names = [name for name, _ in plain.named_parameters()]
    assert names == [name for name, _ in load_policy(parent.path).named_parameters()]


def test_an_adapter_with_dropout_is_refused(tmp_path):
    with pytest.raises(JobError, match=r"dropout is 0\.1"):
        build(GRPOConfig, config_of(tmp_path, lora={"dropout": 0.1}))


@pytest.mark.parametrize("loss", ["grpo", pytest.param("rloo", marks=pytest.mark.slow)])
def test_the_reward_rises_also_on_prompts_never_trained_on(tmp_path, parent, loss):
    config = config_of(
        tmp_path, loss=loss, sampling={**SMALL, "prompts": 8, "completions": 8},
        kl={"beta": 0.02, "place": "reward" if loss == "rloo" else "loss"}, optimization={"max_steps": 30},
    )  # fmt: skip
    exit_code, result = run(make_job("grpo", tmp_path / "out", config, parent=parent), tmp_path)
    assert exit_code == EXIT_DONE, result
    lines = metrics_of(tmp_path / "out")
    assert sum(line["reward"] for line in lines[:3]) / 3 < 0.45
    assert sum(line["reward"] for line in lines[-3:]) / 3 > 0.75
    measured = [line["held_out_reward"] for line in lines if "held_out_reward" in line]
    assert max(measured) > 0.75
    assert lines[0]["kl_nats"] == pytest.approx(0, abs=1e-4)
    assert lines[-1]["kl_nats"] > 0.5
    card = json.loads((tmp_path / "out" / "checkpoint" / "card.json").read_text())
    assert (card["stage"], card["held_out_prompts"], card["prompts"]) == ("grpo", 2, 22)
    assert card["config"]["reward"]["terms"][0]["pattern"] == "e"


def test_a_run_over_its_kl_budget_ends_early_and_says_why(tmp_path, parent):
    config = config_of(tmp_path, kl={"beta": 0.0}, guards={"max_kl_nats": 0.3}, optimization={"max_steps": 60})
    exit_code, _ = run(make_job("grpo", tmp_path / "out", config, parent=parent), tmp_path)
    card = json.loads((tmp_path / "out" / "checkpoint" / "card.json").read_text())
    assert exit_code == EXIT_DONE
    assert "kl_nats" in card["stopped_early"]
    assert card["steps"] < 60


def test_a_learnt_reward_and_a_snapshots_prompts_do_as_well(tmp_path, parent):
    reward = Input(str(tmp_path / "r"), make_tiny_reward(tmp_path / "r", parent.path))
    snapshot = write_snapshot(tmp_path / "s", planted_pairs(32, seed=0))
    config = {"sampling": SMALL, "optimization": {"max_steps": 2}, "loss": "dapo"}
    job = make_job("grpo", tmp_path / "out", config, parent=parent, reward=reward, snapshot=snapshot)
    exit_code, result = run(job, tmp_path)
    assert exit_code == EXIT_DONE, result
    assert metrics_of(tmp_path / "out")[0]["reward_reward"] != 0


def test_an_ensemble_that_disagrees_more_than_at_first_ends_the_run(tmp_path, parent, tokenizer):
    torch.manual_seed(0)
    model = reward_from_policy(parent.path, ["reward#0", "reward#1", "reward#2"])
    reward = Input(str(tmp_path / "r"), save_checkpoint(model, tokenizer, tmp_path / "r", {}))
    config = config_of(tmp_path, reward=None, guards={"max_disagreement": 1.05}, optimization={"max_steps": 30})
    exit_code, result = run(make_job("grpo", tmp_path / "out", config, parent=parent, reward=reward), tmp_path)
    assert exit_code == EXIT_DONE, result
    lines = metrics_of(tmp_path / "out")
    assert lines[0]["disagreement_ratio"] == 1.0
    assert lines[-1]["disagreement_ratio"] > 1.05
    assert all(line["disagreement_ratio"] <= 1.05 for line in lines[:-1])
    card = json.loads((tmp_path / "out" / "checkpoint" / "card.json").read_text())
    assert "disagreement_ratio" in card["stopped_early"]


def test_a_rollout_is_learnt_from_in_whole_minibatches(tmp_path):
    config = build(GRPOConfig, config_of(tmp_path, sampling={**SMALL, "passes": 2}, optimization={"batch_size": 8}))
    assert step_counts(config, 24) == (2400, 4)  # 100 epochs of 6 rollouts, each 2 passes of 2 minibatches
    with pytest.raises(JobError, match="must divide"):
        build(GRPOConfig, config_of(tmp_path, optimization={"batch_size": 5}))


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"loss": "ppo"}, "loss is 'ppo'"),
        ({"sampling": {"completions": 1}}, "completions is 1"),
        ({"sampling": {"temperature": 0}}, "temperature is 0"),
        ({"kl": {"place": "prompt"}}, "place is 'prompt'"),
        ({"kl": {"beta": 0, "target_nats": 3}}, "beta is 0"),
        ({"clip": {"dual": 0.5}}, "dual is 0.5"),
        ({"sampling": {"top_p": 0.9}}, "no field 'top_p'"),
    ],
)
def test_a_bad_config_is_refused_by_its_field(tmp_path, options, said):
    with pytest.raises(JobError, match=said):
        build(GRPOConfig, config_of(tmp_path, **options))
