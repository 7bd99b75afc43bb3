"""The stage `evaluate`: a reward model on held-out pairs and counterfactuals, and a policy against its parent.

Inputs: snapshot, reward; reward_baseline (the arm without the mitigation) or reward_champion (the model in use so far);
policy and parent; gold with checkpoints.
Every figure can be traced: items.jsonl holds each comparison's scores, samples.jsonl each sampled answer with its
reward, curve.jsonl the points of over-optimisation, values.jsonl what each mean is the mean of.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from alignment.config import REWARD, EvaluateConfig, Job, JobError
from alignment.data.rows import write_jsonl
from alignment.measures.curves import check_curves, curve_batches, measure_curves
from alignment.measures.figures import Measure, Resampling, arm_metrics, metric
from alignment.measures.heads import asked_texts, head_items, read_asked, reward_measures
from alignment.measures.panel import accuracy_price, items, measure_rewards, read_panel
from alignment.measures.policies import (
    SAMPLING,
    compare_policies,
    enough_samples,
    read_prompts,
    sample_batches,
)
from alignment.measures.rewardbench import bench_measures, bench_texts, read_bench
from alignment.measures.values import keep_values
from alignment.progress import Progress

BESIDE = {"reward_baseline": "mitigated minus baseline, paired", "reward_champion": "new minus champion, paired"}


def run(job: Job, config: EvaluateConfig) -> dict[str, Any]:
    """Measure everything the inputs allow. Inputs: snapshot, reward; optionally reward_baseline, policy with parent."""
    if ("policy" in job.inputs) != ("parent" in job.inputs) and "gold" not in job.inputs:
        raise JobError(
            "a policy is compared with its parent: name both inputs, policy and parent, or neither"
        )
    if set(BESIDE) <= set(job.inputs):
        raise JobError("a reward model is compared with one other: name reward_baseline or reward_champion, not both")
    check_curves(job, config)
    how, work = Resampling(config.bootstrap, job.seed), Progress(job)
    prompts = read_prompts(job, config) if {"policy", "gold"} & set(job.inputs) else []
    config, asked = enough_samples(config, len(prompts)), len(prompts)
    if job.dry_run:  # two batches: between them lies what each of the others takes
        prompts = prompts[: -(-2 * config.batch_size // config.samples)]
    on_curves = curve_batches(job, config, len(prompts))
    work.later = on_curves + (sample_batches(prompts, config) if "policy" in job.inputs else 0)
    compared, metrics = evaluate_rewards(job, config, how, work)
    arms = {next((name for name in BESIDE if name in job.inputs), ""): compared}
    if "policy" in job.inputs:
        work.later = on_curves
        policies, found, samples = compare_policies(job, config, prompts, how, work.tick)
        metrics, arms["parent"] = metrics + found, policies
        write_jsonl(Path(job.output) / "samples.jsonl", samples)
    work.later = 0
    found, points = measure_curves(job, config, prompts, how, work.tick)
    if points:
        write_jsonl(Path(job.output) / "curve.jsonl", points)
    work.left_out([SAMPLING], whole=asked, taken=len(prompts))
    values = keep_values(Path(job.output), arms)
    return {"checkpoint": None, "metrics": metrics + found, "values": values}


def evaluate_rewards(
    job: Job, config: EvaluateConfig, how: Resampling, work: Progress
) -> tuple[list[list[Measure]], list[dict[str, Any]]]:
    """(measures of each arm, metrics): the reward model on held-out judgments and counterfactuals, beside the other."""
    snapshot, other = job.input_path("snapshot"), next((name for name in BESIDE if name in job.inputs), "")
    arms = [job.input_path(name) for name in filter(None, ("reward", other))]
    bench = read_bench(config.reward_bench) if config.reward_bench else []
    panel, asked = read_panel(snapshot), read_asked(snapshot, arms)
    measured = measure_rewards(panel, arms, config.max_length, work, [*bench_texts(bench), *asked_texts(asked)])
    write_jsonl(Path(job.output) / "items.jsonl", [*items(panel, measured), *head_items(asked, measured)])
    figures = [reward_measures(panel, asked, found) for found in measured]
    metrics = arm_metrics(figures, how, BESIDE.get(other, ""))
    if other == "reward_baseline":
        metrics += [accuracy_price(entry) for entry in metrics if entry["key"] == "reward_accuracy_change"]
    on_bench = bench_measures(bench, measured[0].of(REWARD)) if bench else []
    return figures, metrics + [metric(measure, how) for measure in on_bench]
