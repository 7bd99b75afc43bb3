from dataclasses import fields, replace

import pytest
import torch

from alignment.config import CONFIGS, JobError
from alignment.config.job import build
from alignment.models import precision
from alignment.models.precision import autocast, chosen_precision
from tests.alignment.snapshots import make_job


def test_a_named_precision_is_taken_and_auto_measures_one(tmp_path):
    job = make_job("sft", tmp_path, {})
    assert chosen_precision("fp32", job) == "fp32" and chosen_precision("bf16", job) == "bf16"
    assert chosen_precision("auto", job) in {"fp32", "bf16"}


@pytest.mark.parametrize("first", ["fp32", "bf16"])
def test_a_resumed_run_keeps_the_precision_that_was_measured_first(tmp_path, monkeypatch, first):
    """A machine that is busy at one attempt and quiet at the next must not mix two precisions in one run."""
    last = None
    for name, faster in (("a", first), ("b", "bf16" if first == "fp32" else "fp32"), ("c", "neither")):
        (tmp_path / name).mkdir()
        seconds = {torch.float32: 2.0 * (faster == "bf16"), torch.bfloat16: 1.0}
        monkeypatch.setattr(precision, "_seconds", seconds.get)
        job = replace(make_job("sft", tmp_path / name, {}), resume_from=last)
        assert chosen_precision("auto", job) == first
        last = job.output
    fresh = replace(job, resume_from=None)
    assert chosen_precision("auto", fresh) == "fp32"  # a run of its own measures anew, also where another was


TRAINS = sorted(name for name, kind in CONFIGS.items() if "precision" in [option.name for option in fields(kind)])


@pytest.mark.parametrize("stage", TRAINS)
def test_every_stage_that_trains_may_measure_its_precision(stage):
    needed = {"pretrain": {"text": ["prose.txt"]}, "sft": {"rows": "rows.jsonl"}}.get(stage, {})
    assert build(CONFIGS[stage], {**needed, "precision": "auto"}).precision == "auto"
    with pytest.raises(JobError, match="precision"):
        build(CONFIGS[stage], {**needed, "precision": "fp16"})


def test_fp32_leaves_products_alone_and_bf16_lowers_them():
    left, right = torch.randn(4, 4), torch.randn(4, 4)
    with autocast("fp32"):
        assert (left @ right).dtype == torch.float32
    with autocast("bf16"):
        assert (left @ right).dtype == torch.bfloat16
