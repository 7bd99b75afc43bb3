"""Human preferences as pairs, folds that keep groups whole, figures by hand, and the benchmark at toy size."""

import gzip
import json
from collections import Counter

import numpy as np
import pytest

from alignment.measures.figures import Resampling
from benchmarks import reward_data
from benchmarks._reward_rows import folds, read_demo, read_hh, read_ukp, some_of
from benchmarks.reward_data import arm_figures, change_of_accuracy, margins_of, over_baselines
from tests.benchmarks.in_process import keep_in_process

HOW = Resampling(200, 0)


def write_gzip(path, rows):
    with gzip.open(path, "wt", encoding="utf-8") as stream:
        stream.write("".join(json.dumps(row) + "\n" for row in rows))
    return path


def item(chosen_score, rejected_score, *, chosen="long words", rejected="x", group="g", fold=0, longer=1.0):
    return {"kind": "pair", "chosen_score": chosen_score, "rejected_score": rejected_score, "chosen": chosen,
            "rejected": rejected, "group": group, "fold": fold, "longer_wins_margin": longer, "tfidf_margin": -1.0,
            "tfidf_length_margin": 0.0}  # fmt: skip


def natural(turned: bool, group="g"):
    sides = {"first_score": 1.0, "second_score": 0.0, "swapped_first_score": 1.0, "swapped_second_score": 2.0 * turned}
    return {"kind": "natural", "group": group, "fold": 0, **sides}


def test_the_demo_s_pairs_are_those_that_a_majority_decided():
    rows = read_demo()
    assert len(rows) > 1000 and len({row["group"] for row in rows}) == 16
    assert all(row["chosen"] != row["rejected"] for row in rows)


def test_a_label_of_ukp_names_the_better_argument_and_its_debate_is_the_group(tmp_path):
    topic = "ban-plastic-water-bottles_no-bad-for-the-economy"
    row = {"id": "1", "topic": topic, "label": "a2", "a1": "worse", "a2": "better"}
    found = read_ukp(write_gzip(tmp_path / "ukp.gz", [row]))[0]
    assert found["chosen"][0]["content"] == "better" and found["rejected"][0]["content"] == "worse"
    assert found["group"] == "ban-plastic-water-bottles"


def test_a_dialogue_of_hh_is_cut_before_its_last_answer(tmp_path):
    before = "\n\nHuman: Hello\n\nAssistant: Hi!\n\nHuman: A joke?"
    whole = [f"{before}\n\nAssistant: {said}" for said in ("Yes.", "No.")]
    rows = [{"chosen": chosen, "rejected": whole[1]} for chosen in whole]
    found = read_hh(write_gzip(tmp_path / "hh.gz", rows))
    assert len(found) == 1  # the same answer twice is no preference
    assert [turn["content"] for turn in found[0]["prompt"]] == ["Hello", "Hi!", "A joke?"]
    assert [turn["role"] for turn in found[0]["prompt"]] == ["user", "assistant", "user"]
    assert found[0]["chosen"][0]["content"] == "Yes."


def test_a_group_is_never_on_both_sides_and_every_pair_is_tested_once():
    rows = [{"group": f"g{number % 7}", "number": number} for number in range(70)]
    tested = Counter()
    for train, test in folds(rows, 3):
        assert not {row["group"] for row in train} & {row["group"] for row in test}
        assert len(train) + len(test) == 70
        tested.update(row["number"] for row in test)
    assert set(tested.values()) == {1} and len(tested) == 70


def test_drawn_rows_are_numbered_anew():
    rows = [{"group": str(number)} for number in range(50)]
    assert [row["comparison"] for row in some_of(rows, 10, 0)] == list(range(10))
    assert len(some_of(rows, 0, 0)) == 50


def test_margins_of_folds_are_brought_to_one_scale():
    rows = [item(3.0, 0.0), item(-3.0, 0.0), item(0.1, 0.0, fold=1), item(0.1, 0.0, fold=1)]
    assert margins_of(rows).tolist() == [1.0, -1.0, 1.0, 1.0]


def test_the_figures_of_an_arm_by_hand():
    rows = [item(1, 0), item(1, 0, group="h"), item(0, 1, chosen="x", rejected="long words"),
            item(1, 0, chosen="x", rejected="long words", group="h"), natural(True), natural(False, "h")]  # fmt: skip
    found = arm_figures([rows], HOW)
    assert found["accuracy"]["value"] == 0.75 and found["accuracy"]["n"] == 4
    assert found["accuracy_chosen_shorter"]["value"] == 0.5 and found["accuracy_chosen_shorter"]["n"] == 2
    assert found["flip_rate"]["value"] == 0.5
    assert found["length_correlation"]["value"] == pytest.approx(0.5)


@pytest.mark.parametrize("longer, beats", [(-1.0, True), (1.0, False)])
def test_a_model_beats_its_baselines_only_where_every_interval_says_so(longer, beats):
    rows = [item(1, 0, group=str(number), longer=longer) for number in range(30)]
    found = over_baselines([rows], HOW)
    assert found["tfidf"]["difference"]["value"] == 1.0 and found["tfidf_length"]["difference"]["value"] == 0.5
    assert found["beats_all"] is beats


def test_the_price_of_a_mitigation_is_paired():
    before = [item(1, 0, group=str(number)) for number in range(10)]
    after = [item(1 if number % 2 else -1, 0, group=str(number)) for number in range(10)]
    assert change_of_accuracy([after], [before], HOW)["value"] == -0.5


@pytest.mark.slow
def test_the_benchmark_runs_at_toy_size(tmp_path, capsys, monkeypatch):
    keep_in_process(monkeypatch, reward_data)
    words = ["--folds", "2", "--train-pairs", "16", "--test-pairs", "24", "--max-length", "64", "--bootstrap", "100",
             "--arms", "length_decorrelation", "--work", str(tmp_path)]  # fmt: skip
    assert reward_data.main(words) == 0
    found = json.loads(capsys.readouterr().out.splitlines()[-1])["demo"]
    assert found["pairs"] == 48 and found["mitigated"]["folds"] == 1
    assert set(found["mitigated"]) == {"folds", "plain", "length_decorrelation"}
    assert np.isfinite(found["plain"]["over"]["tfidf"]["difference"]["value"])
    ours = {path: path.stat().st_mtime_ns for path in tmp_path.glob("demo/*/result.json")}
    assert reward_data.main(words) == 0  # what is done is not done again
    assert {path: path.stat().st_mtime_ns for path in ours} == ours and len(ours) == 6
    assert json.loads(capsys.readouterr().out.splitlines()[-1])["demo"] == found
