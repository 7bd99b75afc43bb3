"""The evaluation on models whose faults are planted: every figure is there, traceable, and says what it should."""

import json
import math
from collections import defaultdict
from statistics import fmean

import pytest

from alignment.config import EXIT_BAD_INPUT, EXIT_DONE, EvaluateConfig, Input
from alignment.guards import repetition
from alignment.manifest import file_sha256
from alignment.measures.panel import accuracy_price
from alignment.measures.policies import distinct, enough_samples, overlap
from alignment.measures.values import item_of
from tests.alignment.snapshots import gendered_pairs, make_job, metrics_of, pair, user, write_snapshot
from tests.alignment.stages import FAST, run

QUICK = {"bootstrap": 100, "max_prompts": 6, "samples": 3, "max_new_tokens": 8, "batch_size": 8}


@pytest.fixture(scope="module")
def trained(tmp_path_factory, parent):
    """A biased reward model, the mitigated one, and a policy: what a round hands to the evaluation."""
    folder = tmp_path_factory.mktemp("round")
    snapshot = write_snapshot(folder / "snapshot", gendered_pairs(64, seed=0), gendered_pairs(30, seed=5))
    inputs = {"snapshot": snapshot}
    for name, stage, config in [
        ("reward_baseline", "reward", {}),
        ("reward", "reward", {"counterfactual_weight": 3.0}),
        ("policy", "preference", {"beta": 0.1}),
    ]:
        job = make_job(
            stage, folder / name, {"optimization": FAST, **config}, snapshot=snapshot, parent=parent
        )
        exit_code, result = run(job, folder)
        assert exit_code == EXIT_DONE, result
        inputs[name] = Input(**result["checkpoint"])
    return {**inputs, "parent": parent}


@pytest.fixture(scope="module")
def evaluated(trained, tmp_path_factory):
    folder = tmp_path_factory.mktemp("evaluation")
    exit_code, result = run(make_job("evaluate", folder / "out", QUICK, **trained), folder)
    assert exit_code == EXIT_DONE, result
    return folder / "out", {entry["key"]: entry for entry in result["metrics"]}


def half_if_equal(ours: float, theirs: float) -> float:
    return (ours > theirs) + (ours == theirs) / 2


def rows_of(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_accuracy_stands_beside_its_trivial_baselines(evaluated):
    entry = evaluated[1]["reward_accuracy"]
    assert set(entry["baselines"]) == {"longer_wins", "tfidf", "tfidf_length"}
    assert entry["low"] <= entry["value"] <= entry["high"]
    assert (entry["n"], entry["clusters"], entry["unit"]) == (60, 12, "share")
    assert entry["baselines"]["tfidf"] >= 0.9  # the bag of words finds the planted words
    assert bool(entry["note"]) == (entry["value"] <= max(entry["baselines"].values()))


def test_every_figure_of_the_bias_panel_is_there(evaluated):
    keys = {
        "accuracy_chosen_shorter", "accuracy_chosen_longer", "length_correlation", "length_rank_correlation",
        "calibration_error", "counterfactual_flip_rate", "counterfactual_gap", "counterfactual_flip_rate_templates",
        "counterfactual_gap_templates", "counterfactual_direction_templates",
    }  # fmt: skip
    assert keys <= set(evaluated[1])
    assert {f"{key}_change" for key in keys} <= set(evaluated[1])
    assert "labels" in evaluated[1]["length_correlation"]["baselines"]


def test_the_mitigation_is_measured_against_its_baseline_in_pairs(evaluated):
    metrics = evaluated[1]
    moved = metrics["counterfactual_flip_rate_change"]
    assert (
        moved["value"] < -0.2
    )  # the baseline arm turns verdicts around on gender, the mitigated one does not
    assert moved["high"] < 0
    assert metrics["counterfactual_gap_change"]["high"] < 0
    price, change = metrics["accuracy_price"], metrics["reward_accuracy_change"]
    assert (price["value"], price["low"]) == (-change["value"], -change["high"])


def test_few_prompts_get_more_samples_each_and_many_prompts_no_fewer():
    config = EvaluateConfig(samples=2, answers=100)
    assert enough_samples(config, 10).samples == 10
    assert enough_samples(config, 7).samples == 15
    assert enough_samples(config, 128).samples == 2
    assert enough_samples(EvaluateConfig(samples=2), 3).samples == 2


def test_the_price_of_a_mitigation_keeps_the_warning_of_few_groups():
    moved = {"key": "reward_accuracy_change", "value": -0.02, "low": -0.1, "high": 0.05,
             "note": "mitigated minus baseline, paired; only 3 groups: rough"}  # fmt: skip
    assert accuracy_price(moved)["note"] == "accuracy lost to the mitigation, paired; only 3 groups: rough"
    assert accuracy_price({**moved, "note": "mitigated minus baseline, paired"})["note"].endswith("paired")


def test_items_trace_the_figures_to_single_comparisons(evaluated):
    folder, metrics = evaluated
    items = rows_of(folder / "items.jsonl")
    pairs = [row for row in items if row["kind"] == "pair"]
    right = [half_if_equal(row["chosen_score"], row["rejected_score"]) for row in pairs]
    assert sum(right) / len(right) == pytest.approx(metrics["reward_accuracy"]["value"])
    natural = [row for row in items if row["kind"] == "natural"]
    flipped = [
        math.copysign(1, row["first_score"] - row["second_score"])
        != math.copysign(1, row["swapped_first_score"] - row["swapped_second_score"])
        for row in natural
    ]
    assert sum(flipped) / len(natural) == pytest.approx(metrics["counterfactual_flip_rate"]["value"])


def test_the_policy_is_compared_with_its_parent_prompt_by_prompt(evaluated):
    folder, metrics = evaluated
    samples = rows_of(folder / "samples.jsonl")
    assert len(samples) == metrics["win_rate"]["n"] == 18
    assert metrics["win_rate"]["clusters"] == 6
    wins = [half_if_equal(row["policy"]["reward"], row["parent"]["reward"]) for row in samples]
    assert sum(wins) / len(wins) == pytest.approx(metrics["win_rate"]["value"])
    drift = sum(row["log_ratio_nats"] for row in samples) / len(samples)
    assert drift == pytest.approx(metrics["kl_to_parent"]["value"])
    for key in ("mean_length_tokens", "end_of_text_rate", "repetition"):
        assert "parent" in metrics[key]["baselines"]


def test_the_values_of_each_mean_are_kept_item_by_item_beside_the_other_arms(evaluated):
    folder, metrics = evaluated
    values = rows_of(folder / "values.jsonl")
    said = json.loads((folder / "result.json").read_text())["values"]
    assert said == {"file": "values.jsonl", "sha256": file_sha256(folder / "values.jsonl")}
    by_key = defaultdict(list)
    for row in values:
        by_key[row["metric"]].append(row)
    for key in ("reward_accuracy", "accuracy_chosen_shorter", "counterfactual_flip_rate_templates", "win_rate",
                "mean_length_tokens", "repetition"):  # fmt: skip
        rows = by_key[key]
        assert len({row["item"] for row in rows}) == len(rows) == metrics[key]["n"], key
        assert len({row["group"] for row in rows}) == metrics[key]["clusters"], key
        assert fmean(row["value"] for row in rows) == pytest.approx(metrics[key]["value"]), key
    lengths = by_key["mean_length_tokens"]
    assert {row["against"] for row in lengths} == {"parent"}
    assert fmean(row["other"] for row in lengths) == pytest.approx(metrics["mean_length_tokens"]["baselines"]["parent"])
    assert {row["other"] for row in by_key["win_rate"]} == {0.5}
    assert "calibration_error" not in by_key  # no mean of its rows


def test_an_item_keeps_its_name_until_its_text_or_its_label_changes():
    prompt = [{"role": "user", "content": "Why?"}]
    assert item_of(prompt, "a", "b") == item_of([{"content": "Why?", "role": "user"}], "a", "b")
    assert len({item_of(prompt, "a", "b"), item_of(prompt, "b", "a"), item_of(prompt, "ab", "")}) == 3


def test_progress_is_written_while_it_measures(evaluated):
    lines = metrics_of(evaluated[0])
    assert [line["step"] for line in lines] == list(range(1, len(lines) + 1))
    assert {line["steps"] for line in lines} == {len(lines)}  # the end is known from the beginning


def test_the_same_job_gives_the_same_figures(trained, evaluated, tmp_path):
    inputs = {name: trained[name] for name in ("snapshot", "reward")}
    _, result = run(make_job("evaluate", tmp_path / "out", QUICK, **inputs), tmp_path)
    for entry in result["metrics"]:
        assert entry == evaluated[1][entry["key"]]
    assert not (tmp_path / "out" / "samples.jsonl").exists()


def test_a_policy_against_itself_wins_half_and_has_not_moved(trained, tmp_path):
    inputs = {
        **{name: trained[name] for name in ("snapshot", "reward", "parent")},
        "policy": trained["parent"],
    }
    prompts = tmp_path / "prompts.jsonl"
    prompts.write_text(
        "".join(json.dumps({"id": f"p{i}", "messages": user(f"Why {i}?")}) + "\n" for i in range(20))
    )
    _, result = run(
        make_job("evaluate", tmp_path / "out", {**QUICK, "prompts": str(prompts)}, **inputs), tmp_path
    )
    metrics = {entry["key"]: entry for entry in result["metrics"]}
    assert metrics["win_rate"]["value"] == 0.5
    assert metrics["kl_to_parent"]["value"] == pytest.approx(0, abs=1e-5)
    assert {row["prompt_id"] for row in rows_of(tmp_path / "out" / "samples.jsonl")} <= {
        f"p{i}" for i in range(20)
    }


def test_a_policy_without_its_parent_is_refused(trained, tmp_path):
    inputs = {name: trained[name] for name in ("snapshot", "reward", "policy")}
    exit_code, result = run(make_job("evaluate", tmp_path / "out", QUICK, **inputs), tmp_path)
    assert exit_code == EXIT_BAD_INPUT
    assert "name both inputs" in result["reason"]


def test_a_snapshot_without_held_out_pairs_yields_no_figures_and_says_why(trained, tmp_path):
    snapshot = write_snapshot(tmp_path / "s", [pair("Why?", "a", "b")])
    exit_code, result = run(
        make_job("evaluate", tmp_path / "out", QUICK, snapshot=snapshot, reward=trained["reward"]), tmp_path
    )
    assert exit_code == EXIT_DONE, result
    accuracy = next(entry for entry in result["metrics"] if entry["key"] == "reward_accuracy")
    assert accuracy["value"] is None
    assert "no rows" in accuracy["note"]


def test_repetition_counts_runs_seen_before():
    assert repetition([1, 2, 3, 4, 1, 2, 3, 4]) == pytest.approx(1 / 5)
    assert repetition([1, 2, 3]) == 0


def test_length_control_and_diversity_stand_beside_the_win_rate(evaluated):
    metrics = evaluated[1]
    controlled = metrics["win_rate_length_controlled"]
    assert controlled["low"] <= controlled["value"] <= controlled["high"]
    assert (controlled["n"], controlled["clusters"]) == (18, 6)
    for key in ("distinct_1", "distinct_2", "answer_overlap"):
        entry = metrics[key]
        assert entry["n"] == entry["clusters"] == 6  # one figure a prompt
        assert 0 <= entry["value"] <= 1 and 0 <= entry["baselines"]["parent"] <= 1


def test_accuracy_by_length_bucket_counts_every_pair_once(evaluated):
    buckets = [entry for key, entry in evaluated[1].items() if key.startswith("accuracy_length_")]
    plain = [entry for entry in buckets if not entry["key"].endswith("_change")]
    assert len(plain) == 5 and sum(entry["n"] for entry in plain) == evaluated[1]["reward_accuracy"]["n"]
    right = sum(entry["n"] * entry["value"] for entry in plain if entry["n"])
    assert right / 60 == pytest.approx(evaluated[1]["reward_accuracy"]["value"])


def test_diversity_by_hand():
    assert distinct([[1, 2, 1], [1, 2]], 1) == 2 / 5
    assert distinct([[1, 2, 1], [1, 2]], 2) == 2 / 3
    assert math.isnan(distinct([[1]], 2))
    assert overlap([[1, 2], [2, 3], [2, 3]]) == pytest.approx((1 / 3 + 1 / 3 + 1) / 3)
    assert math.isnan(overlap([[1, 2]]))


def test_a_champion_is_compared_pair_by_pair_and_loses_no_accuracy_to_a_mitigation(trained, evaluated, tmp_path):
    given = {name: trained[name] for name in ("snapshot", "reward")}
    inputs = given | {"reward_champion": trained["reward_baseline"]}
    exit_code, result = run(make_job("evaluate", tmp_path / "out", QUICK, **inputs), tmp_path)
    assert exit_code == EXIT_DONE, result
    found = {entry["key"]: entry for entry in result["metrics"]}
    moved = found["reward_accuracy_change"]
    assert moved["value"] == evaluated[1]["reward_accuracy_change"]["value"] and "new minus champion" in moved["note"]
    assert "accuracy_price" not in found


def test_a_reward_model_is_compared_with_one_other(trained, tmp_path):
    exit_code, result = run(
        make_job("evaluate", tmp_path / "out", QUICK, **trained, reward_champion=trained["reward_baseline"]), tmp_path
    )
    assert exit_code == EXIT_BAD_INPUT and "not both" in result["reason"]
