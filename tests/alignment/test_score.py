"""Scores of given answers: those that the models give, in the order given, and what cannot be read is named."""

import json
from dataclasses import replace

import pytest
import torch

from alignment.config import EXIT_BAD_INPUT, EXIT_DONE, Input
from alignment.data.text import encode_completion, encode_prompt, load_tokenizer
from alignment.models.checkpoints import load_policy, load_reward, reward_from_policy, save_checkpoint
from alignment.models.scores import encode_text_row, scores_of
from tests.alignment.snapshots import make_job, user
from tests.alignment.stages import run
from tests.tiny_models import make_tiny_policy, make_tiny_reward

TEXTS = ["Books are good.", "No.", "A teacher can help you, sure.", "He agreed.", "Please choose."]


@pytest.fixture
def files(tmp_path):
    """Config of three prompts and five answers, two of which belong to one prompt."""
    prompts, answers = tmp_path / "prompts.jsonl", tmp_path / "answers.jsonl"
    prompts.write_text("".join(json.dumps({"id": n, "messages": user(f"Say {n}.")}) + "\n" for n in range(3)))
    rows = [{"id": n % 3, "text": text} for n, text in enumerate(TEXTS)]
    answers.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return {"prompts": str(prompts), "completions": str(answers), "batch_size": 2}


@pytest.fixture
def reward(tmp_path, parent):
    path = tmp_path / "reward"
    return Input(str(path), make_tiny_reward(path, parent.path))


def scored(tmp_path, config: dict, **inputs) -> list[dict]:
    exit_code, result = run(make_job("score", tmp_path / "out", config, **inputs), tmp_path)
    assert exit_code == EXIT_DONE, result
    rows = [json.loads(line) for line in (tmp_path / "out" / "scores.jsonl").read_text().splitlines()]
    assert result["scores"]["path"].endswith("scores.jsonl") and result["metrics"][0]["n"] == len(rows)
    return rows


def test_every_answer_has_the_score_that_the_reward_model_gives_it(tmp_path, files, reward):
    rows = scored(tmp_path, files, reward=reward)
    model, tokenizer = load_reward(reward.path), load_tokenizer(reward.path)
    units = [[encode_text_row(tokenizer, user(f"Say {n % 3}."), text, 512)] for n, text in enumerate(TEXTS)]
    wanted = scores_of(model, units, tokenizer.pad_token_id)
    assert [row["id"] for row in rows] == [0, 1, 2, 0, 1]
    assert torch.tensor([row["scores"] for row in rows]) == pytest.approx(wanted, abs=1e-5)
    assert all("drift_nats" not in row for row in rows)


def test_an_ensemble_tells_its_members_one_by_one(tmp_path, files, parent):
    path = tmp_path / "ensemble"
    with torch.random.fork_rng():
        torch.manual_seed(4)
        model = reward_from_policy(parent.path, ["reward#0", "reward#1", "reward#2"])
    digest = save_checkpoint(model, load_tokenizer(parent.path), path, {"stage": "tiny"})
    rows = scored(tmp_path, {**files, "head": "reward", "max_length": 64}, reward=Input(str(path), digest))
    assert {len(row["scores"]) for row in rows} == {3} and len(set(rows[0]["scores"])) == 3


def test_the_drift_is_the_log_ratio_of_the_two_policies_by_token(tmp_path, files, reward, parent):
    other = Input(str(tmp_path / "other"), make_tiny_policy(tmp_path / "other", seed=9))
    rows = scored(tmp_path, files, reward=reward, policy=other, parent=parent)
    tokenizer = load_tokenizer(parent.path)
    head, answer = encode_prompt(tokenizer, user("Say 1.")), encode_completion(tokenizer, user("Say 1."), "No.")

    def log_p(path) -> float:
        """By plain softmax over one unpadded row."""
        with torch.no_grad():
            logits = load_policy(path)(torch.tensor([head + answer])).logits[0].log_softmax(-1)
        return sum(logits[len(head) + i - 1, token].item() for i, token in enumerate(answer))

    assert rows[1]["drift_nats"] == pytest.approx((log_p(other.path) - log_p(parent.path)) / len(answer), abs=1e-4)


def test_what_cannot_be_read_is_named(tmp_path, files, reward, parent):
    (tmp_path / "answers.jsonl").write_text('{"id": 0, "text": "x"}\n{"id": 7, "text": "x"}\n')
    exit_code, result = run(make_job("score", tmp_path / "bad", files, reward=reward), tmp_path)
    assert exit_code == EXIT_BAD_INPUT and "line 2" in result["reason"]
    exit_code, result = run(make_job("score", tmp_path / "alone", files, reward=reward, policy=parent), tmp_path)
    assert exit_code == EXIT_BAD_INPUT and "policy and parent" in result["reason"]
    (tmp_path / "answers.jsonl").write_text("")
    exit_code, result = run(make_job("score", tmp_path / "none", files, reward=reward), tmp_path)
    assert exit_code == EXIT_BAD_INPUT and "holds no completion" in result["reason"]


def test_a_dry_run_scores_two_batches_and_says_how_long_all_would_take(tmp_path, files, reward):
    job = make_job("score", tmp_path / "dry", files, reward=reward)
    exit_code, result = run(replace(job, dry_run=True), tmp_path)
    assert exit_code == EXIT_DONE and result["metrics"][0]["n"] == 4
    assert json.loads((tmp_path / "dry" / "dry.json").read_text())["taken"] == 2
