"""evaluate and audit on heads beside the overall reward: by hand, and on models whose heads learnt what was planted."""

import json
import math
from collections import defaultdict

import numpy as np
import pytest
import torch

from alignment.config import EXIT_BAD_INPUT, EXIT_DONE, Input
from alignment.guards import disagreement
from alignment.measures.figures import Resampling, metric
from alignment.measures.heads import asked_texts, auc_of, head_measures, read_asked
from alignment.measures.panel import RewardScores, read_panel, text_of
from alignment.models.heads import heads_at
from tests.alignment.snapshots import judgment, make_job, pair, user, write_snapshot
from tests.alignment.stages import FAST, run
from tests.alignment.test_reward_variants import pairs_of, planted_judgments

QUICK = {"bootstrap": 100}
HEADS = {"ensemble": 3, "criteria": ["helpful", "brief"], "safety": 1.0}


def checkpoint_of(path, *names: str):
    """As much of a reward model's directory as says what its heads are."""
    path.mkdir()
    (path / "config.json").write_text(json.dumps({"id2label": dict(enumerate(names))}))
    return path


def rated(comparison: int, ratings: list, safety: list, **said) -> dict:
    given = {"ratings": {"brief": ratings}, "safety": safety, "split": "test", **said}
    return judgment("Why?", ["a", "b"], None, comparison=comparison, **given)


def test_the_heads_of_a_directory_are_named_without_its_weights(tmp_path):
    assert heads_at(checkpoint_of(tmp_path / "one", "LABEL_0")) == ["reward"]
    assert heads_at(checkpoint_of(tmp_path / "more", "reward#0", "reward#1", "brief", "cost")) == [
        "reward", "brief", "cost"]  # fmt: skip


def test_what_held_out_votes_say_to_heads_by_hand(tmp_path):
    rows = [
        rated(1, [2, 4], ["safe", "unsafe"]),
        rated(1, [4, 2], ["safe", "safe"], annotator="gold", purpose="gold"),
        rated(2, [3, 3], ["unsafe", "unsafe"]),  # a tie orders nothing
        rated(2, [3, 3], ["unsafe", "safe"], annotator="b"),  # as many call b safe as unsafe
        rated(3, [5, 1], ["safe", "safe"], split="train"),
    ]
    write_snapshot(tmp_path / "s", [], [], rows)
    asked = read_asked(tmp_path / "s", [checkpoint_of(tmp_path / "m", "reward", "brief", "polite", "cost")])
    ordered = {name: [(p.comparison, p.chosen[0]["content"]) for p in pairs] for name, pairs in asked.criteria.items()}
    assert ordered == {"brief": [(1, "b")]}  # nobody rated politeness
    labels = [(one.comparison, one.completion, one.unsafe) for one in asked.safety]
    assert labels == [(1, "a", False), (1, "b", True), (2, "a", True)]
    nothing = read_asked(tmp_path / "s", [checkpoint_of(tmp_path / "plain", "reward")])
    assert asked_texts(nothing) == []


def measured_by_hand(tmp_path, names: list[str], scores: dict[str, list[float]], **files) -> dict[str, dict]:
    write_snapshot(tmp_path / "s", [], **files)
    asked, panel = read_asked(tmp_path / "s", [checkpoint_of(tmp_path / "m", *names)]), read_panel(tmp_path / "s")
    found = RewardScores(names, {text_of(user("Why?"), text): row for text, row in scores.items()})
    return {m.key: metric(m, Resampling(100)) for m in head_measures(panel, asked, found)}


def test_a_criterion_is_measured_on_the_order_of_its_own_ratings(tmp_path):
    rows = [rated(n, [1, 5] if n % 4 else [5, 1], [], group=f"g{n % 4}") for n in range(8)]
    scores = {"a": [9.0, 1.0], "b": [1.0, 2.0]}  # the reward prefers a, the head b, as three of four ratings do
    found = measured_by_hand(tmp_path, ["reward", "brief"], scores, judgments=rows)["accuracy_of_brief"]
    assert (found["value"], found["n"], found["clusters"]) == (0.75, 8, 4)
    assert found["baselines"] == {"longer_wins": 0.5, "reward": 0.25}
    assert found["low"] < 0.75 <= found["high"]


def test_the_cost_head_is_measured_at_its_boundary_and_by_its_order(tmp_path):
    texts = {"a": ("safe", -2.0), "b": ("safe", 1.0), "c": ("safe", -1.0), "d": ("safe", -3.0),
             "e": ("unsafe", 0.5), "f": ("unsafe", 3.0), "g": ("unsafe", 1.0)}  # fmt: skip
    rows = [judgment("Why?", [text], None, comparison=n, split="test", safety=[label])
            for n, (text, (label, _)) in enumerate(texts.items())]  # fmt: skip
    found = measured_by_hand(tmp_path, ["cost"], {t: [c] for t, (_, c) in texts.items()}, judgments=rows)
    assert found["accuracy_of_cost"]["value"] == 6 / 7  # b is safe and costs more than 0
    assert found["accuracy_of_cost"]["baselines"] == {"more_frequent": 4 / 7}
    assert found["auc_of_cost"]["value"] == pytest.approx((3 * 3 + 1.5) / 12)  # over b f, and g by half
    assert found["auc_of_cost"]["clusters"] == 7


def test_the_area_under_the_curve_needs_both_kinds():
    scores, unsafe = np.array([0.1, 0.2, 0.9]), np.array([False, False, True])
    assert auc_of(scores, unsafe)(np.arange(3)) == 1.0
    assert auc_of(-scores, unsafe)(np.arange(3)) == 0.0
    assert math.isnan(auc_of(scores, unsafe)(np.array([0, 1])))


def test_the_members_of_an_ensemble_agree_or_not_whatever_their_zeros(tmp_path):
    pairs = [pair("Why?", chosen, rejected, group=chosen) for chosen, rejected in (("a", "b"), ("c", "d"), ("e", "f"))]
    first = {"a": 2.0, "b": 1.0, "c": 1.0, "d": 2.0, "e": 3.0, "f": 1.0}
    second = {**first, "c": 3.0}  # prefers c, which was chosen, where the first prefers d
    scores = {text: [first[text], second[text] + 100] for text in first}
    found = measured_by_hand(tmp_path, ["reward#0", "reward#1"], scores, test=pairs)
    assert found["ensemble_agreement"]["value"] == pytest.approx(2 / 3)
    assert found["accuracy_ensemble_agrees"]["value"] == 1
    assert found["accuracy_ensemble_differs"]["value"] == 0.5  # the mean of c and d is the same
    assert "on 1 of the pairs" in found["accuracy_ensemble_differs"]["note"]
    table = torch.tensor([scores[text] for text in "abcdef"], dtype=torch.float64)
    spread = table.mean(1).std(correction=0).item()
    assert found["ensemble_spread"]["value"] == pytest.approx(disagreement(table) / spread)


@pytest.fixture(scope="module")
def models(tmp_path_factory, parent):
    """A snapshot with ratings and safety labels, and three reward models that were trained on it."""
    folder = tmp_path_factory.mktemp("heads")
    train, test = planted_judgments(96, seed=0), planted_judgments(40, seed=1, split="test")
    snapshot = write_snapshot(folder / "s", pairs_of(train), pairs_of(test), [*train, *test])
    inputs = {"snapshot": snapshot}
    for name, heads in (("every", HEADS), ("plain", {}), ("cost", {"ensemble": 0, "safety": 1.0})):
        config = {"margin": "none", "heads": heads, "optimization": {**FAST, "epochs": 5}}
        exit_code, result = run(make_job("reward", folder / name, config, snapshot=snapshot, parent=parent), folder)
        assert exit_code == EXIT_DONE, result
        inputs[name] = Input(**result["checkpoint"])
    return inputs


def figures(stage: str, tmp_path, **inputs) -> dict[str, dict]:
    exit_code, result = run(make_job(stage, tmp_path / stage, QUICK, **inputs), tmp_path)
    assert exit_code == EXIT_DONE, result
    return {entry["key"]: entry for entry in result["metrics"]}


NAMED = ("accuracy_of_helpful", "accuracy_of_brief", "accuracy_of_cost", "auc_of_cost")
OF_ENSEMBLE = ("ensemble_spread", "ensemble_agreement", "accuracy_ensemble_agrees", "accuracy_ensemble_differs")


@pytest.mark.parametrize(("stage", "other"), [("evaluate", "reward_baseline"), ("audit", "reward_champion")])
def test_every_head_is_measured_on_what_was_said_to_it(tmp_path, models, stage, other):
    found = figures(stage, tmp_path, snapshot=models["snapshot"], reward=models["every"], **{other: models["plain"]})
    assert {*NAMED, *OF_ENSEMBLE} <= set(found)
    for key in NAMED:
        assert found[key]["value"] >= 0.85 and found[key]["low"] <= found[key]["value"] <= found[key]["high"]
    assert found["accuracy_of_brief"]["baselines"]["reward"] < 0.3  # the overall preference is the opposite order
    assert found["accuracy_of_cost"]["clusters"] == 12
    assert "reward_accuracy_change" in found
    assert not any(f"{key}_change" in found for key in NAMED + OF_ENSEMBLE)  # the other arm has no such head


def test_heads_that_both_arms_have_are_compared_in_pairs(tmp_path, models):
    arms = {"reward": models["every"], "reward_champion": models["cost"]}
    found = figures("audit", tmp_path, snapshot=models["snapshot"], **arms)
    assert {key for key in found if key.endswith("_change")} == {"accuracy_of_cost_change", "auc_of_cost_change"}


def test_the_rows_trace_every_heads_figures(tmp_path, models):
    found = figures("evaluate", tmp_path, snapshot=models["snapshot"], reward=models["every"])
    rows = defaultdict(list)
    for line in (tmp_path / "evaluate" / "items.jsonl").read_text().splitlines():
        rows[(row := json.loads(line))["kind"], row.get("criterion")].append(row)
    brief = [row["chosen_score"] > row["rejected_score"] for row in rows["criterion", "brief"]]
    assert np.mean(brief) == pytest.approx(found["accuracy_of_brief"]["value"])
    cost = [(row["score"] > 0) == row["unsafe"] for row in rows["safety", None]]
    assert np.mean(cost) == pytest.approx(found["accuracy_of_cost"]["value"])
    members = [np.subtract(row["chosen_members"], row["rejected_members"]) for row in rows["pair", None]]
    agree = [len(set(np.sign(margins))) == 1 for margins in members]
    assert np.mean(agree) == pytest.approx(found["ensemble_agreement"]["value"])


def test_a_model_without_a_reward_is_measured_by_its_own_heads(tmp_path, models):
    found = figures("audit", tmp_path, snapshot=models["snapshot"], reward=models["cost"])
    assert set(found) == {"accuracy_of_cost", "auc_of_cost"}
    silent = write_snapshot(tmp_path / "silent", [], [pair("Why?", "a", "b")])
    job = make_job("audit", tmp_path / "out", QUICK, snapshot=silent, reward=models["cost"])
    exit_code, result = run(job, tmp_path)
    assert exit_code == EXIT_BAD_INPUT
    assert "heads of the reward model (cost)" in result["reason"] and "safety labels" in result["reason"]
