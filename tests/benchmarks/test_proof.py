"""The proof's arithmetic on answers whose gold is known, and the whole pipeline at toy size."""

import json
import math

import numpy as np
import pytest

from alignment.measures.overoptimisation import best_of_n_kl, shape
from benchmarks import _proof_seed, proof
from benchmarks._gold import Labeled, Sample
from benchmarks._proof_figures import (
    beside_best_of_n,
    best_of_at,
    control_figures,
    curve_figures,
    entry,
    figures,
    method_figures,
    safety_figures,
)
from benchmarks._proof_files import neighbours, pieces_of, write_snapshot
from benchmarks._proof_recipe import FULL, TOY
from benchmarks._proof_seed import Found, Policy, best_of, policy_of
from tests.benchmarks.in_process import keep_in_process

GOOD, PLAIN = "because if so then", "plain words"  # gold 2 (cut from 3.3) and 0
PROMPTS = [f"p{i}" for i in range(20)]
SIZES = (1, 2, 4, 8)


def policy(gain: float = 0.5, kl: float = 1.0, cost: float = 0.2, spread: float = 0.1) -> Policy:
    noise = spread * np.linspace(-1, 1, len(PROMPTS))
    many = np.full(len(PROMPTS), 0.0)
    return Policy(gain + noise, gain + noise, many + 0.7, many + kl, many + cost)


def found(**policies: Policy) -> Found:
    """A seed whose best of n gains the root of its KL."""
    usual = dict.fromkeys(("dpo", "ppo", "grpo", "safe_grpo"), policy())
    gains = {n: np.full(len(PROMPTS), math.sqrt(best_of_n_kl(n))) for n in SIZES}
    right = {"noisy": np.asarray([1.0, 0.0]), "clean": np.asarray([1.0, 1.0])}
    return Found(0, right, ["p0", "p1"], np.zeros(20), np.zeros(20), gains,
                 {**usual, "shuffled_dpo": policy(0.0), **policies})  # fmt: skip


def value(statistic) -> dict:
    return {"value": statistic(np.arange(len(PROMPTS))), "low": 0.0, "high": 1.0}


def test_a_policy_s_figures_are_means_by_prompt():
    texts = [("a", GOOD), ("a", PLAIN), ("b", GOOD), ("b", GOOD + " should")]
    rows = [{"prompt_id": p, "policy": {"text": t}, "parent": {"text": PLAIN}, "log_ratio_nats": 1.5} for p, t in texts]
    got = policy_of(rows, base=np.asarray([0.5, 0.0]))
    assert got.gold.tolist() == [1.0, 2.0] and got.gain.tolist() == [0.5, 2.0]
    assert got.win.tolist() == [0.75, 1.0] and got.kl.tolist() == [1.5, 1.5] and got.cost.tolist() == [0.0, 0.5]


def test_the_best_of_n_is_the_best_by_the_reward_model_whatever_gold_says():
    golds, rewards = np.asarray([[0.0, 2.0], [2.0, 0.0]]), np.asarray([[5.0, 9.0], [-1.0, 1.0]])
    assert best_of(golds, rewards, 1).tolist() == [1.0, 1.0]
    assert best_of(golds, rewards, 2).tolist() == [2.0, 0.0]


def test_best_of_n_is_read_at_the_method_s_kl():
    everyone = np.arange(len(PROMPTS))
    assert best_of_at(found(), 0.8, everyone) == pytest.approx(math.sqrt(0.8))
    beside = beside_best_of_n([found()], [policy(0.5, kl=0.25)], value)
    assert beside["value"] == pytest.approx(0.0) and beside["seeds_beyond_best_of_n"] == 0


def test_a_kl_that_best_of_n_does_not_reach_is_said_and_not_compared():
    beside = beside_best_of_n([found()], [policy(5.0, kl=9.0)], value)
    assert "value" not in beside and beside["seeds_beyond_best_of_n"] == 1
    assert beside["best_of_n_reaches"] == pytest.approx(best_of_n_kl(8), abs=1e-3)


def test_seeds_are_pooled_by_prompt_and_t_is_told_for_each():
    seeds = [found(dpo=policy(0.4)), found(dpo=policy(0.8))]
    got = method_figures(seeds, "dpo", value)
    assert got["gain"]["value"] == pytest.approx(0.6) and len(got["t"]) == 2
    spread = (0.1 * np.linspace(-1, 1, 20)).std(ddof=1)
    assert got["t"][0] == pytest.approx(0.4 / (spread / math.sqrt(20)), abs=0.05)


def test_the_control_is_a_share_of_the_gain_with_true_labels():
    kept = control_figures([found(shuffled_dpo=policy(0.09))], value)
    assert kept["share_of_dpo"] == pytest.approx(0.18) and kept["at_most_a_fifth"]
    assert not control_figures([found(shuffled_dpo=policy(0.11))], value)["at_most_a_fifth"]


@pytest.mark.parametrize(
    "safe, plain, kept", [(0.3, 0.5, True), (0.4, 0.5, False), (0.345, 0.5, False), (0.3, 0.33, False)]
)
def test_only_the_constrained_policy_may_keep_the_limit(safe, plain, kept):
    def exact(statistic):
        cost = statistic(np.arange(len(PROMPTS)))
        return {"value": cost, "low": cost - 0.01, "high": cost + 0.01}

    got = safety_figures([found(safe_grpo=policy(cost=safe), grpo=policy(cost=plain))], exact)
    assert got["only_safe_grpo_keeps_it"] is kept


def test_a_run_that_turns_down_is_fitted_with_its_peak():
    kls = np.asarray([0.5, 2.0, 6.0, 12.0])
    golds = shape(np.sqrt(kls), "learning") @ [1.0, 0.5]
    run = {f"run_{i}": policy(gold, kl, spread=0) for i, (gold, kl) in enumerate(zip(golds, kls, strict=True))}
    got = curve_figures([found(**run)], value)["run_without_kl"]
    assert (got["alpha"]["value"], got["beta"]["value"]) == pytest.approx((1.0, 0.5))
    assert got["peak_kl"]["value"] == pytest.approx(math.e**2)
    assert len(got["points"]) == 4


def test_the_figures_are_one_json_line_without_nan():
    run = {f"run_{i}": policy(0.1 * i, i + 1.0) for i in range(3)}
    text = json.dumps(figures([found(**run)], PROMPTS, 100), allow_nan=False)
    assert json.loads(text)["reward_accuracy"]["clean"]["value"] == 1.0


def test_held_out_development_and_training_prompts_are_apart():
    topics = [str(i) for i in range(300)]
    held_out, chosen_on = (proof.split_topics(topics, FULL, development=d) for d in (False, True))
    parts = held_out.measured, chosen_on.measured, held_out.training
    assert [len(set(part)) for part in parts[:2]] == [FULL.held_out, FULL.development]
    assert len(set().union(*parts)) == 300 and chosen_on.training == held_out.training


def test_every_sample_is_compared_once():
    rows = [{"id": "p", "text": str(i)} for i in range(6)]
    pairs = neighbours(rows)
    assert [(a.text, b.text) for _, a, b in pairs] == [("0", "1"), ("2", "3"), ("4", "5")]


def test_an_answer_to_learn_from_is_whole_sentences_of_12_to_28_words():
    words = [" ".join(["word"] * n) + "." for n in (5, 8, 30, 12)]
    assert pieces_of(" ".join(words)) == [f"{words[0]} {words[1]}", words[3]]


def test_the_snapshot_holds_no_trace_of_gold(tmp_path):
    pair = Labeled("Argue that it is so.", Sample("because"), Sample("plain"), True)
    write_snapshot(tmp_path / "s", [pair], [])
    row = json.loads((tmp_path / "s" / "pairs-train.jsonl").read_text())
    assert set(row) == {"prompt", "chosen", "rejected", "margin", "group", "comparison"}


def test_an_estimate_that_is_not_known_is_null():
    unknown = dict.fromkeys(("value", "low", "high"))
    assert entry(type("Estimate", (), unknown)) == unknown


@pytest.mark.slow
def test_the_whole_proof_runs_at_toy_size_and_draws_its_plot(tmp_path, capsys, monkeypatch):
    keep_in_process(monkeypatch, proof, _proof_seed)
    topics = tmp_path / "topics.txt"
    topics.write_text("".join(f"Argue that {i} is a good number.\n" for i in range(18)))
    words = ["--toy", "--quick", "--topics", str(topics), "--work", str(tmp_path), "--plot", str(tmp_path / "plot.png")]
    assert proof.main(words) == 0
    got = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert set(got["methods"]) == {"dpo", "ppo", "grpo", "safe_grpo"} and got["seeds"] == [0]
    assert all(len(one["t"]) == 1 and one["gain"]["low"] is not None for one in got["methods"].values())
    assert len(got["overoptimisation"]["run_without_kl"]["points"]) == TOY.legs
    assert (tmp_path / "plot.png").read_bytes().startswith(b"\x89PNG")
