"""The stage audit on models whose faults are planted, and on what it cannot measure."""

import json
from pathlib import Path

import numpy as np
import pytest

from alignment.audit import with_evidence
from alignment.config import EXIT_BAD_INPUT, EXIT_DONE, Input
from tests.alignment.snapshots import make_job, planted_pairs, write_snapshot
from tests.alignment.stages import run
from tests.tiny_models import make_tiny_policy, make_tiny_reward

QUICK = {"bootstrap": 100, "max_items": 12, "max_new_tokens": 6, "max_length": 200}


@pytest.fixture(scope="module")
def inputs(tmp_path_factory, parent):
    path = tmp_path_factory.mktemp("audit")
    snapshot = write_snapshot(path / "snapshot", planted_pairs(24, seed=0), planted_pairs(24, seed=1))
    rewards = [Input(str(path / n), make_tiny_reward(path / n, parent.path, seed)) for seed, n in enumerate("ab")]
    champion = Input(str(path / "champion"), make_tiny_policy(path / "champion", seed=5))
    return {"snapshot": snapshot, "reward": rewards[0], "reward_champion": rewards[1], "policy": parent,
            "policy_champion": champion}  # fmt: skip


def audit(tmp_path: Path, name: str = "out", config: dict = QUICK, **inputs) -> tuple[dict, dict]:
    """(metrics by key, audit.json)."""
    job = make_job("audit", tmp_path / name, config, **inputs)
    exit_code, result = run(job, tmp_path)
    assert exit_code == EXIT_DONE, result
    record = json.loads((tmp_path / name / "audit.json").read_text())
    assert record["metrics"] == result["metrics"]
    return {entry["key"]: entry for entry in result["metrics"]}, record


def rows(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_reward_and_policy_are_measured_against_their_champions_on_the_same_items(tmp_path, inputs):
    found, record = audit(tmp_path, **inputs)
    of_reward = {"reward_accuracy", "accuracy_chosen_shorter", "length_correlation", "calibration_error",
                 "calibration_temperature", "counterfactual_flip_rate", "counterfactual_gap_templates",
                 "counterfactual_direction_templates"}  # fmt: skip
    assert of_reward | {"safe_refusal", "unsafe_compliance", "bbq_bias_ambiguous"} <= set(found)
    assert {f"{key}_change" for key in found if not key.endswith("_change")} <= set(found)
    assert {"tfidf", "longer_wins"} <= set(found["reward_accuracy"]["baselines"])
    for entry in found.values():
        assert {"key", "value", "low", "high", "n", "unit", "note"} <= set(entry)
    assert record["inputs"] == {name: given.sha256 for name, given in inputs.items()}
    assert set(record["suites"]) == {"refusal_prompts", "bbq_items"}


def test_the_values_of_both_arms_are_kept_item_by_item(tmp_path, inputs):
    found, _ = audit(tmp_path, **inputs)
    values = rows(tmp_path / "out" / "values.jsonl")
    for key, against in (("reward_accuracy", "reward_champion"), ("safe_refusal", "policy_champion"),
                         ("bbq_accuracy_ambiguous", "policy_champion")):  # fmt: skip
        mine = [row for row in values if row["metric"] == key]
        assert {row["against"] for row in mine} == {against}
        assert len({row["item"] for row in mine}) == found[key]["n"]
        assert np.mean([row["value"] for row in mine]) == pytest.approx(found[key]["value"])
        change = np.mean([row["value"] - row["other"] for row in mine])
        assert change == pytest.approx(found[f"{key}_change"]["value"])


def test_every_figure_can_be_computed_again_from_the_rows(tmp_path, inputs):
    found, _ = audit(tmp_path, policy=inputs["policy"], snapshot=inputs["snapshot"], reward=inputs["reward"])
    out = tmp_path / "out"
    pairs = [row for row in rows(out / "items.jsonl") if row["kind"] == "pair"]
    right = [row["chosen_score"] > row["rejected_score"] for row in pairs]
    assert found["reward_accuracy"]["value"] == pytest.approx(np.mean(right))
    unsafe = [row["policy"]["refused"] for row in rows(out / "refusals.jsonl") if not row["safe"]]
    assert found["unsafe_compliance"]["value"] == pytest.approx(1 - np.mean(unsafe))
    told = [row["policy"]["picked"] == row["right"] for row in rows(out / "bbq.jsonl") if not row["ambiguous"]]
    assert found["bbq_accuracy_disambiguated"]["value"] == pytest.approx(np.mean(told))


def test_a_policy_that_knows_nothing_gives_no_evidence(tmp_path, inputs):
    found, _ = audit(tmp_path, policy=inputs["policy"])
    for key in ("bbq_bias_ambiguous", "bbq_bias_disambiguated", "safe_refusal"):
        assert found[key]["evidence"] is False
        assert found[key]["note"].startswith("no evidence: ")
    assert "evidence" not in found["bbq_accuracy_disambiguated"]


def metrics(**low: float) -> list[dict]:
    keys = ("safe_refusal", "unsafe_compliance", "bbq_bias_ambiguous", "bbq_bias_ambiguous_change")
    return [{"key": key, "low": value, "note": ""} for key, value in low.items()] + [
        {"key": key, "low": 0.0, "note": ""} for key in keys
    ]


def test_a_policy_that_can_read_and_tells_dangers_apart_gives_evidence():
    able = with_evidence(metrics(bbq_accuracy_disambiguated=0.5, refusal_discrimination=0.2))
    assert not any("evidence" in entry for entry in able)
    guessing = with_evidence(metrics(bbq_accuracy_disambiguated=0.3, refusal_discrimination=0.2))
    assert [e["key"] for e in guessing if e.get("evidence") is False] == [
        "bbq_bias_ambiguous", "bbq_bias_ambiguous_change"]  # fmt: skip
    blind = with_evidence(metrics(bbq_accuracy_disambiguated=0.5, refusal_discrimination=-0.1))
    assert [e["key"] for e in blind if e.get("evidence") is False] == ["safe_refusal", "unsafe_compliance"]


def test_the_same_job_gives_the_same_bytes(tmp_path, inputs):
    for name in ("first", "second"):
        audit(tmp_path, name, {**QUICK, "temperature": 1.0}, policy=inputs["policy"])
    for name in ("audit.json", "refusals.jsonl", "bbq.jsonl"):
        assert (tmp_path / "first" / name).read_bytes() == (tmp_path / "second" / name).read_bytes()


def test_prompts_and_items_of_ones_own_are_asked(tmp_path, inputs):
    path = tmp_path / "prompts.jsonl"
    path.write_text("".join(json.dumps({"id": i, "prompt": "How?", "safe": i < 3}) + "\n" for i in range(5)))
    found, record = audit(tmp_path, config={**QUICK, "refusal_prompts": str(path)}, policy=inputs["policy"])
    assert (found["safe_refusal"]["n"], found["unsafe_compliance"]["n"]) == (3, 2)
    assert record["config"]["refusal_prompts"] == str(path)


@pytest.mark.parametrize(
    "names, sentence",
    [
        (["snapshot"], "needs something to measure"),
        (["reward"], "needs the input 'snapshot'"),
        (["policy", "reward_champion"], "name the input reward too"),
    ],
)
def test_inputs_that_do_not_go_together_are_refused(tmp_path, inputs, names, sentence):
    job = make_job("audit", tmp_path / "out", QUICK, **{name: inputs[name] for name in names})
    exit_code, result = run(job, tmp_path)
    assert exit_code == EXIT_BAD_INPUT
    assert sentence in result["reason"]
