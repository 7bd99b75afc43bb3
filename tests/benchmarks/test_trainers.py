"""What `bench trainers` gives to either side, and what it makes of the runs."""

import pytest

from alignment.data.pairs import encode_pairs, read_pairs
from alignment.data.text import load_tokenizer
from benchmarks._trainers_work import LONGEST, TOKENIZER, Task, Work, turns, write_rows
from benchmarks.trainers import figures, loss_difference

HH = "\n\nHuman: Hello\n\nAssistant: Hi.\n\nHuman: Why?\n\nAssistant: Because."


def test_a_dialogue_of_hh_is_a_prompt_and_its_last_answer():
    prompt, answer = turns(HH)
    assert [(m["role"], m["content"]) for m in prompt] == [("user", "Hello"), ("assistant", "Hi."), ("user", "Why?")]
    assert answer == [{"role": "assistant", "content": "Because."}]


def test_nobody_has_to_cut_a_pair(tmp_path):
    write_rows(tmp_path, 64)
    pairs, dropped = encode_pairs(load_tokenizer(TOKENIZER), read_pairs(tmp_path / "pairs", "train"), 10**6)
    assert len(pairs) == 64 and not dropped
    assert max(pair.tokens for pair in pairs) <= LONGEST


def test_figures_are_medians_and_a_ratio_above_one_says_that_ours_is_faster(tmp_path, monkeypatch):
    monkeypatch.setattr("benchmarks.trainers.work_of", lambda *_: Work(samples=64, tokens=6400, gigaflop=100.0))
    took = {"peak_mib": 1000.0, "losses": [1.0, 2.0]}
    ours = [{**took, "seconds": s, "cpu_seconds": 1.0} for s in (2.0, 9.0, 1.0)]
    trl = [{"peak_mib": 2000.0, "losses": [1.0, 2.5], "seconds": 8.0, "cpu_seconds": 3.0}] * 3
    bf16 = [{**took, "losses": [1.0, 2.25], "seconds": 1.0, "cpu_seconds": 0.5}] * 3
    found = figures(Task("dpo_4m"), tmp_path, {"ours": ours, "bf16": bf16, "trl": trl}, peak=100.0)
    assert (found["ratio"], found["cpu_ratio"], found["rss_ratio"]) == (4.0, 3.0, 0.5)
    assert (found["samples_per_second"], found["tokens_per_second"]) == (32.0, 3200)
    assert (found["utilisation"], found["loss_difference"]) == (0.5, 0.5)
    assert (found["bf16"]["ratio"], found["bf16"]["cpu_ratio"], found["bf16"]["loss_difference"]) == (8.0, 6.0, 0.25)


def test_a_side_that_took_fewer_steps_is_an_error():
    with pytest.raises(ValueError):
        loss_difference({"losses": [1.0]}, {"losses": [1.0, 2.0]})
