"""A benchmark's stage is a real process: its figures come back, its failure is told, what is done is not done again."""

import threading

import pytest

from benchmarks._stages import CPU, Bench, cpu_seconds, freeze_pairs, side_by_side, work_folder


@pytest.fixture
def bench(tmp_path):
    return Bench(tmp_path, 0, threading.Semaphore(1))


def test_a_stage_runs_as_a_process_once(bench, tmp_path, capfd):
    (tmp_path / "text.txt").write_text("Some words, and some more words.\n\nSome other words.")
    config = {"text": [str(tmp_path / "text.txt")], "vocabulary": 280}
    first = bench.stage("words", "tokenizer", config)
    spent = (tmp_path / "words" / CPU).read_text()
    assert first["checkpoint"] and float(spent) > 0.1 and cpu_seconds([tmp_path]) == float(spent)
    assert capfd.readouterr().out == ""  # stdout is for the benchmark's one line

    assert bench.stage("words", "tokenizer", config) == first
    assert (tmp_path / "words" / CPU).read_text() == spent

    assert bench.stage("words", "tokenizer", {**config, "vocabulary": 270}) != first


def test_a_stage_that_fails_stops_the_benchmark_with_its_own_reason(bench):
    with pytest.raises(RuntimeError, match=r"words ended as failed: .*nowhere\.txt"):
        bench.stage("words", "tokenizer", {"text": ["nowhere.txt"]})


def test_side_by_side_keeps_the_names_and_raises_what_a_task_raised():
    assert side_by_side({1: lambda: "a", 2: lambda: "b"}) == {1: "a", 2: "b"}
    with pytest.raises(ZeroDivisionError):
        side_by_side({1: lambda: 1 / 0, 2: lambda: "b"})


def test_a_folder_that_was_named_stays_and_another_goes(tmp_path):
    with work_folder(str(tmp_path / "kept")) as kept, work_folder(None) as gone:
        assert kept.is_dir() and gone.is_dir()
    assert kept.is_dir() and not gone.exists()


def test_a_snapshot_that_is_frozen_again_is_the_same(tmp_path):
    row = {"prompt": [], "chosen": [], "rejected": [], "margin": 0.0, "group": "g"}
    assert freeze_pairs(tmp_path / "s", [row], []) == freeze_pairs(tmp_path / "s", [row], [])
