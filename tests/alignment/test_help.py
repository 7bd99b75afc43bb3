"""What a newcomer is told is what runs."""

import json
import os
import shlex
import subprocess
import sys
from dataclasses import fields

import pytest

from alignment.__main__ import main
from alignment.config import CONFIGS, EXIT_DONE
from alignment.help import described, nested, purpose, stage_help, tutorial
from tests.tiny_models import TEXT


def blocks(text):
    """The indented blocks of the tutorial, in order."""
    parts = [part for part in text.split("\n\n") if part.startswith("    ")]
    return ["\n".join(line[4:] for line in part.splitlines()) for part in parts]


def test_the_tutorials_first_run_works_as_it_is_written(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "text.txt").write_text("\n\n".join(TEXT * 30))
    first, pretrain, row, second, sft = blocks(tutorial())[:5]
    (tmp_path / "base.json").write_text(first)
    (tmp_path / "rows.jsonl").write_text(row + "\n")
    (tmp_path / "sft.json").write_text(second)
    for command in (pretrain, sft):
        python, flag, package, *words = shlex.split(command)
        assert (python, flag, package) == ("python", "-m", "alignment")
        assert main(words) == EXIT_DONE, capsys.readouterr().err
    for name in ("metrics.jsonl", "checkpoint/card.json", "checkpoint/manifest.json", "state", "result.json"):
        assert (tmp_path / "runs" / "sft" / name).exists()


def test_the_tutorial_names_every_stage_and_every_exit_code(capsys):
    assert main(["--help"]) == EXIT_DONE
    shown = capsys.readouterr().out
    for stage in CONFIGS:
        assert f"    {stage} " in shown and purpose(stage) in shown
    for code in ("0 done", "64 bad input", "70 a loss", "75 stopped"):
        assert code in shown
    assert max(map(len, shown.splitlines())) <= 120


@pytest.mark.parametrize("stage", list(CONFIGS))
def test_a_stages_help_lists_every_field_with_its_default_and_meaning(stage, capsys):
    assert main([stage, "--help"]) == EXIT_DONE
    shown = capsys.readouterr().out
    assert CONFIGS[stage].__doc__ in shown
    for field in fields(CONFIGS[stage]):
        assert f"  {field.name} = " in shown or f"  {field.name}:" in shown
    assert purpose(stage).endswith(".") and "\n" not in purpose(stage)


def test_nested_groups_are_listed_further_in():
    lines = described(CONFIGS["sft"], "  ")
    assert "  micro_tokens = 0                  tokens of one pass" in "\n".join(lines)
    assert any(line.startswith("      rank = 16") for line in lines)
    assert {"optimization", "lora"} <= set(nested())


def test_a_stages_own_defaults_are_told():
    """The stages that sample change the optimizer's defaults."""
    shown = stage_help("grpo")
    assert "learning_rate = 1e-05" in shown and 'schedule = "constant"' in shown and "batch_size = 64" in shown


@pytest.mark.parametrize("words", [["--help"], ["grpo", "--help"]])
def test_a_reader_who_has_seen_enough_ends_the_help_in_peace(words):
    """As `| head -1` does: nobody reads the pipe any more."""
    reader, writer = os.pipe()
    os.close(reader)
    command = [sys.executable, "-m", "alignment", *words]
    found = subprocess.run(command, stdout=writer, stderr=subprocess.PIPE, timeout=60)
    os.close(writer)
    assert (found.returncode, found.stderr) == (EXIT_DONE, b"")


def test_help_needs_no_torch():
    code = "import sys, alignment.help as h; h.tutorial(); h.stage_help('sft'); sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], timeout=60).returncode == 0


def test_an_unknown_stage_points_at_the_help(tmp_path, capsys):
    assert main(["teach"]) == 64
    assert "STAGE is one of tokenizer, pretrain" in capsys.readouterr().err
    assert json.loads(blocks(tutorial())[0])["stage"] == "pretrain" and stage_help("sft").count("--help") == 0
