"""RewardBench's format: subsets, sections and their mean, with values computed by hand."""

import json

import numpy as np
import pytest

from alignment.config import JobError
from alignment.measures.figures import Resampling, metric
from alignment.measures.panel import text_of
from alignment.measures.rewardbench import SECTIONS, bench_measures, bench_texts, read_bench, row_weights

ROWS = [  # subset, whether the model is right
    ("alpacaeval-easy", 1), ("alpacaeval-easy", 1), ("mt-bench-med", 0), ("mt-bench-med", 1),
    ("math-prm", 1), ("hep-go", 0), ("hep-go", 1), ("hep-rust", 0), ("my-own", 1),
]  # fmt: skip


@pytest.fixture
def bench(tmp_path):
    """(the file's pairs, scores that are right or wrong as ROWS says)."""
    rows = [{"prompt": f"Question {i}", "chosen": f"good {i}", "rejected": f"bad {i}", "subset": name, "id": i}
            for i, (name, _) in enumerate(ROWS)]  # fmt: skip
    (tmp_path / "bench.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    pairs = read_bench(str(tmp_path / "bench.jsonl"))
    scores = {text_of(p.prompt, p.rejected): 0.0 for p in pairs}
    for p, (_, right) in zip(pairs, ROWS, strict=True):
        scores[text_of(p.prompt, p.chosen)] = 2.0 * right - 1
    return pairs, scores


def test_subsets_sections_and_their_mean_by_hand(bench):
    found = {m.key.removeprefix("rewardbench_"): m.statistic(np.arange(len(m.groups))) for m in bench_measures(*bench)}
    assert found == {
        "alpacaeval-easy": 1, "mt-bench-med": 0.5, "math-prm": 1, "hep-go": 0.5, "hep-rust": 0, "my-own": 1,
        "section_chat": 0.75,
        "section_reasoning": pytest.approx((1 + 1 / 3) / 2),  # math and code count alike
        "score": pytest.approx((0.75 + 2 / 3) / 2),
    }  # fmt: skip


def test_every_figure_has_its_rows_and_an_interval(bench):
    entries = {entry["key"]: entry for entry in (metric(m, Resampling(200)) for m in bench_measures(*bench))}
    score = entries["rewardbench_score"]
    assert score["n"] == 8 and score["low"] < score["value"] < score["high"]  # my-own stands outside the sections
    assert score["note"].startswith("mean of 2 of 4 sections")
    assert entries["rewardbench_section_chat"]["n"] == 4


def test_math_weighs_as_much_as_all_code_and_a_file_of_one_kind_is_left_alone():
    subsets = np.asarray(["math-prm", "math-prm", "hep-go", "hep-go", "hep-js", "hep-js", "hep-js", "hep-js"])
    assert row_weights(subsets).tolist() == [3, 3, 1, 1, 1, 1, 1, 1]
    assert row_weights(subsets[:2]).tolist() == [1, 1]


def test_no_subset_stands_in_two_sections():
    names = [name for members in SECTIONS.values() for name in members]
    assert len(names) == len(set(names)) == 23


def test_each_text_is_scored_once_and_a_dialogue_may_be_the_prompt(tmp_path):
    turns = [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}, {"role": "user", "content": "c"}]
    row = {"prompt": turns, "chosen": "x", "rejected": "y", "subset": "s"}
    (tmp_path / "b.jsonl").write_text(f"{json.dumps(row)}\n{json.dumps({**row, 'rejected': 'x'})}\n")
    pairs = read_bench(str(tmp_path / "b.jsonl"))
    assert pairs[0].prompt == turns
    assert len(bench_texts(pairs)) == 2


def test_a_row_without_its_subset_is_named(tmp_path):
    (tmp_path / "b.jsonl").write_text('{"prompt": "a", "chosen": "b", "rejected": "c"}\n')
    with pytest.raises(JobError, match=r"b.jsonl line 1: a row has the texts .*subset"):
        read_bench(str(tmp_path / "b.jsonl"))
