"""Online DPO: pairs of the policy's own, fresh at every step; it starts at the reference and moves to the reward."""

import json
import math
import random

import pytest
import torch

from alignment import online_dpo
from alignment.config import EXIT_BAD_INPUT, EXIT_DONE, Input
from alignment.models import sequences
from alignment.online_dpo import best_and_worst
from tests.alignment.snapshots import make_job, metrics_of, planted_pairs, user, write_snapshot
from tests.alignment.stages import run
from tests.tiny_models import make_tiny_reward

CONTAINS_E = {"terms": [{"kind": "contains", "pattern": "e"}]}


def config_of(folder, **options) -> dict:
    path = folder / "prompts.jsonl"
    path.write_text("".join(json.dumps({"id": i, "messages": user(f"Question {i}?")}) + "\n" for i in range(24)))
    plan = {"learning_rate": 3e-3, "warmup_share": 0.0, "epochs": 100, "max_steps": 6, **options.pop("plan", {})}
    sampling = {"prompts": 4, "completions": 4, "max_new_tokens": 8, **options.pop("sampling", {})}
    return {"prompts": str(path), "sampling": sampling, "reward": CONTAINS_E, "optimization": plan, **options}


def trained(tmp_path, parent, name: str = "out", **options) -> list[dict]:
    job = make_job("online_dpo", tmp_path / name, config_of(tmp_path, **options), parent=parent)
    exit_code, result = run(job, tmp_path)
    assert exit_code == EXIT_DONE, result
    return metrics_of(tmp_path / name)


def test_the_pair_is_the_best_and_the_worst_of_a_prompt():
    rewards = torch.tensor([1.0, 3.0, 0.0, 3.0, 2.0, 2.0, 2.0, 2.0, -1.0, 0.0, -5.0, 0.0])
    assert best_and_worst(rewards, 4) == ([1, 9], [2, 10])


@pytest.mark.parametrize("options", [{}, {"lora": {"rank": 4, "dropout": 0.2}}, {"sampling": {"temperature": 0.7}}])
def test_the_first_step_is_at_the_reference(tmp_path, parent, options):
    plan = {"max_steps": 2, "learning_rate": 1e-6}
    first = trained(tmp_path, parent, plan=plan, held_out_prompts=0, **options)[0]
    assert first["loss_nats"] == pytest.approx(math.log(2), abs=1e-5)
    assert first["chosen_reward"] == pytest.approx(0, abs=1e-5)
    assert first["kl_nats"] == pytest.approx(0, abs=1e-4)
    assert 0 < first["reward_gap"] <= 1


def test_the_reward_rises_also_on_prompts_never_trained_on(tmp_path, parent):
    lines = trained(tmp_path, parent, sampling={"prompts": 8, "completions": 8}, plan={"max_steps": 30})
    assert sum(line["reward"] for line in lines[:3]) / 3 < 0.45
    assert sum(line["reward"] for line in lines[-3:]) / 3 > 0.7
    assert max(line["held_out_reward"] for line in lines if "held_out_reward" in line) > 0.7
    assert lines[-1]["kl_nats"] > 0.2  # what was gained has its price
    card = json.loads((tmp_path / "out" / "checkpoint" / "card.json").read_text())
    assert (card["stage"], card["prompts"], card["held_out_prompts"]) == ("online_dpo", 22, 2)


def test_a_run_over_its_kl_budget_ends_early_and_says_why(tmp_path, parent):
    trained(tmp_path, parent, guards={"max_kl_nats": 0.05}, plan={"max_steps": 40, "learning_rate": 1e-2})
    card = json.loads((tmp_path / "out" / "checkpoint" / "card.json").read_text())
    assert "kl_nats" in card["stopped_early"]
    assert card["steps"] < 40


def test_prompts_whose_completions_all_earn_the_same_teach_nothing(tmp_path, parent):
    never = {"terms": [{"kind": "contains", "pattern": "never in eight tokens"}]}
    lines = trained(tmp_path, parent, reward=never, plan={"max_steps": 2})
    assert [(line["loss_nats"], line["gradient_norm"], line["uniform_share"]) for line in lines] == 2 * [(0, 0, 1)]


def test_a_learnt_reward_orders_the_pairs_of_a_snapshots_prompts(tmp_path, parent):
    reward = Input(path=str(tmp_path / "reward"), sha256=make_tiny_reward(tmp_path / "reward", parent.path))
    snapshot = write_snapshot(tmp_path / "s", planted_pairs(16, seed=0))
    config = {"sampling": {"prompts": 2, "max_new_tokens": 6}, "optimization": {"max_steps": 2}}
    job = make_job("online_dpo", tmp_path / "out", config, parent=parent, reward=reward, snapshot=snapshot)
    exit_code, result = run(job, tmp_path)
    assert exit_code == EXIT_DONE, result
    assert all(line["reward_gap"] > 0 for line in metrics_of(tmp_path / "out"))


class Cut(BaseException):
    """The end of a process that nobody announces."""


@pytest.mark.parametrize("options", [{}, {"lora": {"rank": 4, "dropout": 0.2}}], ids=["all weights", "adapter"])
def test_runs_cut_off_within_a_step_end_in_the_same_artifact(tmp_path, parent, options, monkeypatch):
    plan = {"max_steps": 9, "checkpoint_every": 2, "watch_every": 4}
    config = config_of(tmp_path, plan=plan, **options)
    _, whole = run(make_job("online_dpo", tmp_path / "whole", config, parent=parent), tmp_path)
    last, draw, passes = None, random.Random(1), sequences.collate
    for attempt in range(2):
        left = iter(range(draw.randint(3, 4)))

        def collate(*given, left=left):
            if next(left, None) is None:
                raise Cut
            return passes(*given)

        monkeypatch.setattr(sequences, "collate", collate)
        job = make_job("online_dpo", tmp_path / f"attempt {attempt}", config, parent=parent)
        with pytest.raises(Cut):
            run(type(job)(**{**vars(job), "resume_from": last}), tmp_path)
        last = job.output
    monkeypatch.setattr(sequences, "collate", passes)
    job = make_job("online_dpo", tmp_path / "again", config, parent=parent)
    _, result = run(type(job)(**{**vars(job), "resume_from": last}), tmp_path)
    assert metrics_of(tmp_path / "again")[0]["step"] > 2
    assert result["checkpoint"]["sha256"] == whole["checkpoint"]["sha256"]


def test_a_step_samples_the_same_pairs_whenever_it_is_taken(tmp_path, parent):
    config, job = config_of(tmp_path), make_job("online_dpo", tmp_path / "out", config_of(tmp_path), parent=parent)
    config = online_dpo.OnlineDPOConfig(**config)
    setting = online_dpo.open_setting(job, config)
    drawn = [
        online_dpo.sample_pairs(setting, config, seed=0, number=n, baseline=online_dpo.Baseline()).pairs
        for n in (3, 4, 3)
    ]
    assert drawn[0] == drawn[2] != drawn[1]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"loss": "simpo"}, "loss is 'simpo'"),
        ({"sampling": {"completions": 1}}, "a pair needs two"),
        ({"sampling": {"passes": 2}}, "fresh samples"),
        ({"plan": {"batch_size": 7}}, "batch_size is 7"),
        ({"terms": {"target_margin": 1.0}}, "only simpo"),
        ({"terms": {"weights_file": "weights.json"}}, "here there are none"),
    ],
)
def test_a_bad_config_is_refused_by_its_field(tmp_path, parent, options, said):
    job = make_job("online_dpo", tmp_path / "out", config_of(tmp_path, **options), parent=parent)
    exit_code, result = run(job, tmp_path)
    assert exit_code == EXIT_BAD_INPUT
    assert said in result["reason"]
