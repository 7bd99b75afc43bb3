"""The proof's arithmetic, on answers whose gold is known. The proof itself is run by hand: it takes minutes."""

import json

import pytest

from benchmarks._gold import Labeled, Sample
from benchmarks.proof import best_of_figures, neighbours, policy_figures, reward_figures, write_snapshot

GOOD, PLAIN = "because if so then", "plain words"  # gold 2 (cut from 3.3) and 0


def answer(text: str, reward: float = 0.0) -> dict:
    return {"text": text, "finished": True, "reward": reward}


def evaluation(**values: float) -> dict:
    return {"metrics": [{"key": key, "value": value} for key, value in values.items()]}


def test_the_clean_accuracy_counts_a_wrong_label_as_wrong():
    side = Sample("x")
    test = [Labeled("p", side, side, clean) for clean in (True, True, False, False)]
    scores = [(1, 0), (0, 1), (1, 0), (0, 1)]  # agrees with the labels of pairs 0 and 2
    items = [
        {"kind": "pair", "comparison": i, "chosen_score": a, "rejected_score": b}
        for i, (a, b) in enumerate(scores)
    ]
    found = reward_figures(evaluation(reward_accuracy=0.5), [*items, {"kind": "natural"}], test)
    assert found == {"accuracy_noisy": 0.5, "accuracy_clean": 0.5}
    certain = [row for row in items if row["comparison"] in (0, 3)]
    assert reward_figures(evaluation(reward_accuracy=0.5), certain, test)["accuracy_clean"] == 1.0


def test_gains_are_paired_by_prompt():
    samples = [
        {"prompt_id": prompt, "policy": answer(text), "parent": answer(PLAIN)}
        for prompt, text in [("a", GOOD), ("a", PLAIN), ("b", GOOD), ("b", GOOD)]
    ]
    base = {"a": [0.0, 0.0], "b": [0.0, 0.0]}
    found = policy_figures(evaluation(kl_to_parent=1.5), samples, base)
    assert found == {"gold_gain": 1.5, "t": 3.0, "win_rate": 0.875, "kl": 1.5}


def test_best_of_n_takes_the_answer_of_the_highest_reward():
    samples = [
        {"prompt_id": "a", "parent": answer(PLAIN, 5.0)},
        {"prompt_id": "a", "parent": answer(GOOD, 9.0)},
        {"prompt_id": "b", "parent": answer(GOOD, -1.0)},
        {"prompt_id": "b", "parent": answer(PLAIN, 1.0)},
    ]
    base = {"a": [0.0, 2.0], "b": [2.0, 0.0]}
    assert best_of_figures(samples, base) == {"gold_gain": 0.0, "kl": pytest.approx(1.2)}


def test_every_sample_is_compared_once():
    rows = [("id", "p", Sample(str(i))) for i in range(6)]
    pairs = neighbours(rows)
    assert [(a.text, b.text) for _, a, b in pairs] == [("0", "1"), ("2", "3"), ("4", "5")]


def test_the_snapshot_holds_no_trace_of_gold(tmp_path):
    pair = Labeled("Argue that it is so.", Sample("because"), Sample("plain"), True)
    write_snapshot(tmp_path / "s", [pair], [])
    row = json.loads((tmp_path / "s" / "pairs-train.jsonl").read_text())
    assert set(row) == {"prompt", "chosen", "rejected", "margin", "group", "comparison"}
