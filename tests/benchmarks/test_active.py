"""The benchmark's arithmetic, and a whole small run on the data that ship."""

import json

import numpy as np
import pytest

from benchmarks import active
from benchmarks._reward_rows import pair, user
from benchmarks.active import beside_random, first_reach, interval, smoothed, split, texts_of


def rows_of(*groups: str):
    return [pair(user("Which?"), f"good {n}", f"bad {n % 2}", group) for n, group in enumerate(groups)]


def test_every_text_is_embedded_once_and_whole_debates_are_held_out():
    rows = rows_of(*"aabbccdd")
    texts, sides = texts_of(rows)
    assert len(texts) == 10 and sides[0].tolist() == [0, 1] and sides[2, 1] == 1
    vectors = np.arange(20, dtype=float).reshape(10, 2)
    pool, test = split(rows, sides, vectors, np.ones(10), seed=1, share=0.25)
    assert len(pool.sides) == 6 and len(test.sides) == 2
    seen = np.unique(pool.sides)
    assert pool.features[seen].mean(axis=0) == pytest.approx(0) and pool.features[seen].std(axis=0) == pytest.approx(1)


def test_labels_needed_are_the_first_that_reach_the_random_arms_end():
    assert smoothed([0.1, 0.2, 0.3, 0.6]) == pytest.approx([0.1, 0.15, 0.2, 11 / 30])
    assert first_reach([0.5, 0.7, 0.9], 0.7, [10, 20, 30]) == 20 and first_reach([0.5], 0.7, [10]) is None
    runs = [{"random": [0.5] * 3, "margin": [0.6] * 3}, {"random": [0.5] * 3, "margin": [0.4] * 3}]
    found = beside_random("margin", runs, [10, 20, 30])
    assert found["labels_to_random_final"] == [10, None]
    assert found["final_difference"]["value"] == pytest.approx(0) and found["final_difference"]["low"] < 0


def test_the_interval_is_students_over_seeds():
    assert interval([1.0, 2.0, 3.0]) == {"value": 2.0, "low": -0.4841, "high": 4.4841, "by_seed": [1.0, 2.0, 3.0]}
    assert interval([1.0])["low"] is None


@pytest.mark.slow
def test_a_small_run_gives_a_figure_for_each_arm(monkeypatch, capsys):
    rows = rows_of(*"abcdefgh" * 6)
    monkeypatch.setattr(active, "read_demo", lambda: rows)
    assert active.main(["--seeds", "2", "--start", "6", "--step", "4", "--labels", "14"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["pairs"] == 48 and len(found["random_final"]) == 2
    assert all(0 <= accuracy <= 1 for arm in found["curves"].values() for accuracy in arm.values())
    assert len(found["margin"]["labels_to_random_final"]) == 2
