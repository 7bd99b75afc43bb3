"""Best of n: the best completions become rows for SFT, the gain is honest, and a killed run ends in the same rows."""

import json
import math
from itertools import combinations

import numpy as np
import pytest

from alignment import best_of_n
from alignment.best_of_n import best_of_k, best_of_n_kl, select
from alignment.config import EXIT_BAD_INPUT, EXIT_DONE, BestOfNConfig, Input, build
from tests.alignment.snapshots import make_job, metrics_of, planted_pairs, user, write_snapshot
from tests.alignment.stages import FAST, run
from tests.tiny_models import make_tiny_reward

WORDY = {"terms": [{"kind": "length", "words": 6}]}


@pytest.fixture
def prompts(tmp_path):
    path = tmp_path / "prompts.jsonl"
    path.write_text("".join(json.dumps({"id": i, "messages": user(f"Say {i}.")}) + "\n" for i in range(6)))
    return str(path)


def config_of(prompts: str, **options) -> dict:
    sampling = {"completions": 4, "prompts": 2, "max_new_tokens": 8}
    return {"prompts": prompts, "sampling": sampling, "reward": WORDY, **options}


def made(tmp_path, parent, name: str, config: dict, **inputs) -> tuple[dict, list[dict], list[dict]]:
    """(result, samples, rows)."""
    out = tmp_path / name
    exit_code, result = run(make_job("best_of_n", out, config, policy=parent, **inputs), tmp_path)
    assert exit_code == EXIT_DONE, result
    read = [(out / file).read_text().splitlines() for file in ("completions.jsonl", "rows.jsonl")]
    return result, *([json.loads(row) for row in lines] for lines in read)


def samples_of(*rewards: float, finished: bool = True) -> list[dict]:
    return [{"id": i // 3, "sample": i % 3, "reward": r, "finished": finished} for i, r in enumerate(rewards)]


def test_the_best_of_each_prompt_is_kept(tmp_path, parent, prompts):
    result, samples, rows = made(tmp_path, parent, "out", config_of(prompts))
    assert [(s["id"], s["sample"]) for s in samples] == [(i, j) for i in range(6) for j in range(4)]
    best = {i: max(s["reward"] for s in samples if s["id"] == i) for i in range(6)}
    assert all(row["reward"] == best[row["id"]] for row in rows)
    assert len(rows) + result["rows"]["unfinished_left_out"] == 6
    assert all(row["prompt"] == user(f"Say {row['id']}.") for row in rows)
    assert metrics_of(tmp_path / "out")[-1]["step"] == 6


def test_the_figures_are_those_of_the_samples(tmp_path, parent, prompts):
    result, samples, _ = made(tmp_path, parent, "out", config_of(prompts))
    found = {entry["key"]: entry for entry in result["metrics"]}
    rewards = np.array([s["reward"] for s in samples]).reshape(6, 4)
    assert found["best_of_1_reward"]["value"] == pytest.approx(rewards.mean())
    assert found["best_of_4_reward"]["value"] == pytest.approx(rewards.max(1).mean())
    gain = found["best_of_n_gain"]
    assert gain["value"] == pytest.approx((rewards.max(1) - rewards.mean(1)).mean())
    assert gain["low"] <= gain["value"] <= gain["high"]
    assert gain["clusters"] == 6
    assert found["best_of_n_kl"]["value"] == pytest.approx(math.log(4) - 3 / 4)


def test_the_expected_maximum_counts_every_way_to_draw():
    rewards = np.random.default_rng(0).normal(size=(3, 6))
    for k in (1, 2, 4, 6):
        by_hand = [np.mean([max(row[list(drawn)]) for drawn in combinations(range(6), k)]) for row in rewards]
        assert best_of_k(rewards, k) == pytest.approx(by_hand)


def test_the_kl_of_the_best_of_n_by_simulation():
    """Of many equally likely, distinct rewards: the KL of the maximum's distribution to the uniform one."""
    n, size = 4, 4000
    place = np.arange(1, size + 1)
    best = (place / size) ** n - ((place - 1) / size) ** n
    assert (best * np.log(best * size)).sum() == pytest.approx(best_of_n_kl(n), abs=2e-3)
    assert best_of_n_kl(1) == 0


def test_rejection_sampling_by_threshold_and_by_share():
    samples = samples_of(1, 5, 2, 9, 3, 3)
    by_threshold = build(BestOfNConfig, {"select": "threshold", "threshold": 3})
    assert [row["reward"] for row in select(samples, by_threshold)[0]] == [5, 9, 3, 3]
    by_share = build(BestOfNConfig, {"select": "top_share", "top_share": 0.5})
    assert [row["reward"] for row in select(samples, by_share)[0]] == [5, 9, 3]


def test_answers_that_were_cut_off_are_not_learnt():
    config = build(BestOfNConfig, {"sampling": {"completions": 3}})
    assert select(samples_of(1, 5, 2, finished=False), config) == ([], 1)


def test_a_reward_model_judges_and_sft_reads_the_rows(tmp_path, parent):
    reward = Input(path=str(tmp_path / "reward"), sha256=make_tiny_reward(tmp_path / "reward", parent.path))
    snapshot = write_snapshot(tmp_path / "s", planted_pairs(40, seed=0))
    sampling = {"completions": 3, "max_new_tokens": 48}
    config = {"sampling": sampling, "max_prompts": 5, "select": "top_share", "top_share": 1.0}
    result, samples, rows = made(tmp_path, parent, "out", config, reward=reward, snapshot=snapshot)
    assert len(samples) == 15 and 0 < len(rows) <= 15
    assert len({s["reward"] for s in samples}) > 5
    plan = {**FAST, "epochs": 1}
    sft = make_job("sft", tmp_path / "sft", {"rows": result["rows"]["path"], "optimization": plan}, parent=parent)
    exit_code, outcome = run(sft, tmp_path)
    assert exit_code == EXIT_DONE, outcome


def test_a_resumed_run_ends_in_the_same_rows(tmp_path, parent, prompts, monkeypatch):
    whole, _, _ = made(tmp_path, parent, "whole", config_of(prompts))
    out = tmp_path / "cut"
    made(tmp_path, parent, "cut", config_of(prompts))
    lines = (out / "completions.jsonl").read_bytes()
    calls, judged = [], best_of_n.judged
    monkeypatch.setattr(best_of_n, "judged", lambda *given: calls.append(1) or judged(*given))
    for cut in (0, 1, len(lines) // 2, len(lines) - 3, len(lines)):
        (out / "completions.jsonl").write_bytes(lines[:cut])  # what a kill may leave, the last line torn
        job = make_job("best_of_n", tmp_path / f"again {cut}", config_of(prompts), policy=parent)
        job = type(job)(**{**vars(job), "resume_from": str(out)})
        _, result = run(job, tmp_path)
        assert result["rows"]["sha256"] == whole["rows"]["sha256"]
    assert 3 + 3 < len(calls) < 5 * 3  # nothing is sampled that was there


def test_two_prompts_of_one_id_are_refused(tmp_path, parent):
    path = tmp_path / "twice.jsonl"
    path.write_text(2 * (json.dumps({"id": 7, "messages": user("Say.")}) + "\n"))
    job = make_job("best_of_n", tmp_path / "out", config_of(str(path)), policy=parent)
    exit_code, result = run(job, tmp_path)
    assert exit_code == EXIT_BAD_INPUT
    assert "two prompts have the id '7'" in result["reason"]
