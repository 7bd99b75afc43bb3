"""A value that would hang, crash late or silently train nothing is refused before anything is loaded."""

import pytest

from alignment.config import CONFIGS, JobError, build

PROMPTS = {"prompts": "p.jsonl"}


@pytest.mark.parametrize(
    ("stage", "config", "sentence"),
    [
        ("generate", {**PROMPTS, "batch_size": 0}, "batch_size is 0: at least 1 completion"),
        ("evaluate", {"batch_size": 0}, "batch_size is 0: at least 1 completion"),
        ("reward", {"optimization": {"max_steps": -1}}, "max_steps is -1"),
        ("reward", {"optimization": {"max_grad_norm": 0.0}}, "max_grad_norm is 0.0"),
        ("reward", {"optimization": {"warmup_share": 2}}, "warmup_share is 2"),
        ("preference", {"optimization": {"weight_decay": -1}}, "weight_decay is -1"),
        ("reward", {"centering": -1}, "centering is -1"),
    ],
)
def test_a_value_that_cannot_work_is_refused_by_name(stage, config, sentence):
    with pytest.raises(JobError, match=sentence):
        build(CONFIGS[stage], config)
