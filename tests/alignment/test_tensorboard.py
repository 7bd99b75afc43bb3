import json
import sys

import pytest

from alignment.__main__ import main
from alignment.config import EXIT_BAD_INPUT, EXIT_DONE
from alignment.tensorboard import scalars


@pytest.fixture
def runs(tmp_path):
    rows = [
        {"step": 1, "steps": 3, "seconds": 1.0, "loss_nats": 2.5},
        {"step": 2, "steps": 3, "seconds": 2.0, "loss_nats": 9.0},
        {"step": 2, "steps": 3, "seconds": 2.5, "loss_nats": 1.5, "note": "resumed"},
        {"step": 3, "steps": 3, "seconds": 4.0, "loss_nats": 1.0, "accuracy": 0.75},
    ]
    for name in ("sft", "reward/1"):
        (tmp_path / "runs" / name).mkdir(parents=True)
        (tmp_path / "runs" / name / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return tmp_path


def test_every_number_keeps_its_name_and_step_and_a_repeated_step_its_latest_figure(runs):
    found = scalars(runs / "runs" / "sft" / "metrics.jsonl")
    expected = [("loss_nats", 1, 2.5), ("loss_nats", 2, 1.5), ("loss_nats", 3, 1.0), ("accuracy", 3, 0.75)]
    assert [row[:3] for row in found] == expected
    assert found[2][3] - found[0][3] == pytest.approx(3.0)


def test_tensorboard_reads_what_was_written(runs, capsys):
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    assert main(["tensorboard", str(runs / "runs"), str(runs / "logs")]) == EXIT_DONE
    assert "2 runs" in capsys.readouterr().out
    for name in ("sft", "reward/1"):
        events = accumulator.EventAccumulator(str(runs / "logs" / name))
        events.Reload()
        assert [(e.step, e.value) for e in events.Scalars("loss_nats")] == [(1, 2.5), (2, 1.5), (3, 1.0)]
        assert events.Tags()["scalars"] == ["loss_nats", "accuracy"]


def test_without_the_package_the_remedy_is_a_sentence(runs, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    assert main(["tensorboard", str(runs / "runs"), str(runs / "logs")]) == EXIT_BAD_INPUT
    assert "pip install 'labelapp[tensorboard]'" in capsys.readouterr().err


@pytest.mark.parametrize("words", [[], ["runs"], ["absent", "logs"]])
def test_nothing_to_show_is_a_sentence(words, capsys):
    assert main(["tensorboard", *words]) == EXIT_BAD_INPUT
    assert capsys.readouterr().err.count("\n") == 1
