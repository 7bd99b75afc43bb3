"""The memory that a stage needs: by hand on a small shape, and against the measured peak of the demo's own model."""

import gzip
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

import labelapp.demo
from alignment.config import Input
from labelapp.rounds.memory import (
    HELD_TOKENS,
    LOGIT_TOKENS,
    MICRO_TOKENS,
    PROGRAM,
    Shape,
    mean_row_tokens,
    memory_of,
    shape_of,
)
from labelapp.rounds.presets import PRESETS, STAGE_OPTIONS
from tests.alignment.snapshots import make_job, write_snapshot
from tests.rounds.processes import PATIENCE

DEMO = Path(labelapp.demo.__file__).parent
SMALL = Shape(parameters=1000, adapter_parameters=60, width=8, inner=16, depth=2, vocabulary=50, context=64)
FACTOR = 2  # what the formula is trusted to


def test_a_reward_model_by_hand():
    """2 rows of 10 tokens: 4 * 20 tokens * 2 layers * (80 + 64) = 23,040 bytes of activations."""
    found = memory_of(SMALL, "reward", {"optimization": {"batch_size": 2}}, row_tokens=10)
    assert found == (PROGRAM, 4000, 4000, 8000, 23_040) and found.total == PROGRAM + 39_040


def test_an_adapter_by_hand():
    """Rank 2: 120 parameters learn. Activations twice the layers' 23,040, and logits 12 * 20 * 50."""
    config = {"lora": {"rank": 2}, "optimization": {"batch_size": 2}}
    found = memory_of(SMALL, "preference", config, row_tokens=10)
    assert found[1:] == (4000, 480, 960, 2 * 23_040 + 12_000)


def test_ppo_holds_four_models_of_which_two_learn_and_an_adapter_spares_the_reference():
    config = {"sampling": {"prompts": 4, "completions": 1, "max_new_tokens": 5}, "optimization": {"batch_size": 4}}
    found = memory_of(SMALL, "ppo", config)
    assert (found.weights, found.gradients, found.moments) == (16_000, 8000, 16_000)
    assert found.activations == 4 * 20 * 2 * 2 * 144 + 12 * 20 * 50
    assert memory_of(SMALL, "grpo", {"lora": {}}).weights == 4 * 2 * 1000


def test_activation_checkpointing_keeps_one_vector_a_layer():
    plan = {"batch_size": 2, "activation_checkpointing": True}
    found = memory_of(SMALL, "reward", {"optimization": plan}, row_tokens=10)
    assert found.activations == 4 * 20 * (144 + 2 * 8)


def test_long_texts_are_cut_and_large_batches_pass_in_parts():
    roomy = SMALL._replace(context=4096)
    most = memory_of(roomy, "reward", {"optimization": {"batch_size": 512}, "max_length": 4096})
    assert most.activations == 4 * HELD_TOKENS * 2 * 144
    plan = {"batch_size": 512}
    parts = memory_of(roomy, "preference", {"optimization": plan, "max_length": 4096})
    assert parts.activations == 4 * MICRO_TOKENS * 2 * 144 + 12 * LOGIT_TOKENS * roomy.vocabulary
    cut = memory_of(SMALL, "reward", {"optimization": {"batch_size": 2}}, row_tokens=9999)
    assert cut.activations == 4 * (2 * 2 * 64) * 2 * 144


@pytest.mark.parametrize("stage", list(STAGE_OPTIONS))
def test_every_stage_of_a_recipe_has_its_formula(stage):
    specs = [spec for preset in PRESETS.values() for spec in preset.stages if spec["stage"] == stage]
    assert all(memory_of(SMALL, stage, spec["config"]).total > PROGRAM for spec in specs)


def test_the_shape_of_the_demos_model_is_read_from_its_headers():
    shape = shape_of(DEMO / "base_model")
    assert (shape.width, shape.inner, shape.depth, shape.vocabulary, shape.context) == (256, 704, 8, 4096, 512)
    assert 4 * shape.parameters == pytest.approx((DEMO / "base_model/model.safetensors").stat().st_size, rel=0.001)
    layer = 4 * (256 + 256) + 3 * (256 + 704)
    assert shape.adapter_parameters == 8 * layer


def demo_pairs(count: int) -> list[dict]:
    """Pairs of the demo's arguments."""
    rows = [json.loads(line) for line in gzip.open(DEMO / "arguments.jsonl.gz", "rt")]
    texts = {row["argument"]: row for row in rows if "argument" in row}
    chosen = [row["pair"] for row in rows if "pair" in row][:count]
    return [
        {"prompt": [{"role": "user", "content": texts[a]["stance"]}], "margin": 0.5, "group": str(number % 12),
         "chosen": [{"role": "assistant", "content": texts[a]["text"]}], "comparison": number, "votes_tie": 0,
         "rejected": [{"role": "assistant", "content": texts[b]["text"]}], "votes_chosen": 1, "votes_rejected": 0}
        for number, (a, b) in enumerate(chosen)
    ]  # fmt: skip


@pytest.mark.parametrize("stage", ["reward", "preference"])
def test_the_formula_is_within_a_factor_of_two_of_the_measured_peak(tmp_path, stage):
    snapshot = write_snapshot(tmp_path / "snapshot", demo_pairs(96), demo_pairs(8))
    config = next(spec["config"] for spec in PRESETS["reward-dpo"].stages if spec["stage"] == stage)
    job = make_job(stage, tmp_path / "out", config, snapshot=snapshot, parent=Input(str(DEMO / "base_model")))
    job.dump(tmp_path / "job.json")
    command = [sys.executable, "-m", "alignment", stage, str(tmp_path / "job.json"), "--dry-run"]
    subprocess.run(command, check=True, env=os.environ, timeout=4 * PATIENCE, capture_output=True)
    measured = json.loads((tmp_path / "out" / "result.json").read_text())["peak_bytes"]
    tokens = mean_row_tokens(tmp_path / "snapshot" / "pairs-train.jsonl")
    reckoned = memory_of(shape_of(DEMO / "base_model"), stage, config, row_tokens=tokens).total
    assert measured / FACTOR < reckoned < measured * FACTOR, (reckoned, measured)
