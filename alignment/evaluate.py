"""The stage `evaluate`: a reward model on held-out pairs and counterfactuals, and a policy against its parent.

Inputs: snapshot, reward; reward_baseline (the arm without the mitigation); policy and parent. Every figure can be
traced: items.jsonl holds each comparison's scores, samples.jsonl each sampled answer with its reward.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from alignment.config import EvaluateConfig, Job, JobError
from alignment.measures import Resampling
from alignment.panel import items, measure_reward, panel_metrics, read_panel
from alignment.policies import compare_policies, enough_samples, read_prompts, sample_batches
from alignment.progress import Progress
from alignment.rows import write_jsonl


def run(job: Job, config: EvaluateConfig) -> dict[str, Any]:
    """Measure everything the inputs allow. Inputs: snapshot, reward; optionally reward_baseline, policy with parent."""
    snapshot, reward = job.input_path("snapshot"), job.input_path("reward")
    if ("policy" in job.inputs) != ("parent" in job.inputs):
        raise JobError(
            "a policy is compared with its parent: name both inputs, policy and parent, or neither"
        )
    how, work = Resampling(config.bootstrap, job.seed), Progress(job)
    prompts = read_prompts(job, config) if "policy" in job.inputs else []
    config = enough_samples(config, len(prompts))
    work.later = sample_batches(prompts, config)
    panel = read_panel(snapshot)
    arms = [reward, *([job.input_path("reward_baseline")] if "reward_baseline" in job.inputs else [])]
    measured = [
        measure_reward(panel, path, config.max_length, work, arms_after=len(arms) - number)
        for number, path in enumerate(arms, 1)
    ]
    metrics = panel_metrics(panel, measured, how)
    write_jsonl(Path(job.output) / "items.jsonl", items(panel, measured))
    if "policy" in job.inputs:
        work.later = 0
        found, samples = compare_policies(job, config, prompts, how, work.tick)
        metrics += found
        write_jsonl(Path(job.output) / "samples.jsonl", samples)
    return {"checkpoint": None, "metrics": metrics}
