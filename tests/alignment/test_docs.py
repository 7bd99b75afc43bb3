"""docs/trainers.md names every option, points at tests that exist, and its examples run."""

import dataclasses
import json
import re
import runpy
from pathlib import Path

import pytest

from alignment.__main__ import main
from alignment.config import CONFIGS, Lora, build
from alignment.config.server import Server

DOCS = Path(__file__).parents[2] / "docs"
PAGE = (DOCS / "trainers.md").read_text()
# What some stages cannot be built without.
MINIMAL = {"text": ["a.txt"], "rows": "a.jsonl", "prompts": "a.jsonl", "completions": "b.jsonl"}
EXAMPLES = re.findall(r"`python -m alignment (\w+) docs/examples/(\w+)\.json`", PAGE)


def options_of(stage: str) -> list[str]:
    """Every option of a stage by its path, such as sampling.prompts."""
    fields = {field.name for field in dataclasses.fields(CONFIGS[stage])}
    needed = {name: value for name, value in MINIMAL.items() if name in fields and stage != "preference"}
    config = build(CONFIGS[stage], needed)
    found = []
    for name in sorted(fields):
        value = Lora() if name == "lora" else getattr(config, name)
        inner = dataclasses.fields(value) if dataclasses.is_dataclass(value) else []
        found += [f"{name}.{field.name}" for field in inner] or [name]
    return found


@pytest.mark.parametrize("stage", CONFIGS)
def test_every_option_is_on_the_page(stage):
    section = PAGE.partition(f"\n## {stage}\n")[2].partition("\n## ")[0]
    shared = PAGE.partition("## What every stage shares")[2].partition("\n## tokenizer")[0]
    sampled = PAGE.partition("## What stages that sample share")[2].partition("\n## ")[0]
    preference = PAGE.partition("\n## preference\n")[2].partition("\n## ")[0] if stage == "online_dpo" else ""
    missing = [o for o in options_of(stage) if f"`{o}`" not in section + shared + sampled + preference]
    assert not missing


@pytest.mark.parametrize(("page", "least"), [("trainers", 80), ("rollouts", 12), ("devices", 3)])
def test_every_test_that_the_page_names_exists(page, least):
    named = re.findall(r"`(test_\w+\.py)::(test_\w+)`", (DOCS / f"{page}.md").read_text())
    assert len(named) > least
    absent = [(f, t) for f, t in named if f"def {t}(" not in (Path(__file__).parent / f).read_text()]
    assert not absent


def test_every_field_of_a_server_is_on_the_page_of_rollouts():
    page = (DOCS / "rollouts.md").read_text()
    assert not [field.name for field in dataclasses.fields(Server) if f"| `{field.name}` |" not in page]


def test_every_stage_has_an_example():
    assert sorted(EXAMPLES) == sorted((stage, stage) for stage in CONFIGS)


@pytest.mark.slow
def test_the_examples_run_one_after_the_other(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "docs").symlink_to(DOCS)
    runpy.run_path(str(DOCS / "examples" / "data.py"))["main"](tmp_path / "examples")
    for stage, name in EXAMPLES:
        exit_code = main([stage, f"docs/examples/{name}.json"])
        result = json.loads((tmp_path / "examples" / "runs" / stage / "result.json").read_text())
        assert exit_code == 0, (stage, result["reason"])
        assert result["status"] == "done" and (result["checkpoint"] or result["metrics"])
