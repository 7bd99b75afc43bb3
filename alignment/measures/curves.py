"""Curves of over-optimisation: gold against distance for best-of-n of the parent and for the checkpoints of one run.

The gold judge is a reward model that no stage learnt from, or people: their judgments of answers at known distances
are read from a file. Gold and proxy are counted in standard deviations of their scores of the parent's answers.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
from transformers import PreTrainedModel

from alignment.config import EvaluateConfig, Job, JobError
from alignment.data.rows import read_jsonl
from alignment.data.text import load_tokenizer
from alignment.measures.figures import Resampling, metric
from alignment.measures.overoptimisation import (
    Curve,
    best_of_n_kl,
    best_of_n_mean,
    curve_measures,
    fit,
    mean_of_rows,
    points,
    shape,
)
from alignment.measures.policies import Prompt, Tick, answers, log_ratios, prompt_ids
from alignment.models.checkpoints import load_policy
from alignment.sampling.decode import Sample, seed_of
from alignment.sampling.judge import judged, load_judge

FEWEST_CHECKPOINTS = 3


class Judged(NamedTuple):
    """One policy's answers on P prompts, N of each."""

    gold: np.ndarray  # (P, N)
    proxy: np.ndarray  # (P, N)
    kl: np.ndarray  # (P, N) log-ratio to the parent in nats; 0 for the parent


def checkpoints(job: Job) -> list[str]:
    """The names of the inputs checkpoint_1, checkpoint_2, ... in the order of their numbers."""
    named = [(name, name.removeprefix("checkpoint_")) for name in job.inputs if name.startswith("checkpoint_")]
    return [name for name, number in sorted(named, key=lambda n: (int(n[1]) if n[1].isdigit() else 0, n[1]))]


def check_curves(job: Job, config: EvaluateConfig) -> None:
    """Raises JobError where a curve is asked for and cannot be measured, before anything is loaded."""
    run = checkpoints(job)
    if (run or config.best_of) and "gold" not in job.inputs:
        raise JobError("a curve of over-optimisation needs the input 'gold', a reward model that no stage learnt from")
    if "gold" in job.inputs and not (run or config.best_of):
        raise JobError("the input 'gold' judges a curve: set best_of, or name inputs checkpoint_1, checkpoint_2, ...")
    if run and len(run) < FEWEST_CHECKPOINTS:
        raise JobError(f"a curve needs at least {FEWEST_CHECKPOINTS} checkpoints of a run; the job names {len(run)}")
    if "gold" in job.inputs:
        job.input_path("parent")


def curve_batches(job: Job, config: EvaluateConfig, prompts: int) -> int:
    """Pieces of work that `measure_curves` will report."""
    if "gold" not in job.inputs:
        return 0
    of_parent = -(-prompts * max(config.best_of, config.samples) // config.batch_size)
    return of_parent + len(checkpoints(job)) * -(-prompts * config.samples // config.batch_size)


def measure_curves(
    job: Job, config: EvaluateConfig, prompts: Sequence[Prompt], how: Resampling, tick: Tick
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """(metrics, rows of curve.jsonl). Inputs: parent, reward, gold and the checkpoints; or a file of judgments."""
    found = list(model_curves(job, config, prompts, tick)) if "gold" in job.inputs else []
    if config.gold_points:
        found.append(("learning", *read_points(config.gold_points)))
    metrics, rows = [], []
    for form, curve, groups in found:
        metrics += [metric(measure, how) for measure in curve_measures(curve, groups, form)]
        rows += list(curve_rows(curve, form))
    return metrics, rows


def model_curves(
    job: Job, config: EvaluateConfig, prompts: Sequence[Prompt], tick: Tick
) -> Iterator[tuple[str, Curve, list[Any]]]:
    """(form, curve, the prompt of each of its columns)."""
    judge = Judge(job, config, prompts, curve_batches(job, config, len(prompts)), tick)
    parent = judge.ask("parent", max(config.best_of, config.samples))
    groups = [prompt.id for prompt in prompts]
    if config.best_of:
        yield "best_of_n", best_of_n_curve(parent, config.best_of), groups
    if run := checkpoints(job):
        yield "learning", run_curve(parent, [judge.ask(name, config.samples) for name in run], run), groups


def best_of_n_curve(parent: Judged, most: int) -> Curve:
    """n = 1, 2, 4, ... up to `most`: the best by the proxy, as gold sees it."""
    sizes = [2**i for i in range(int(math.log2(most)) + 1)]

    def best(scores: np.ndarray) -> np.ndarray:
        """(K, P) expected scores of the best by the proxy, minus those of one answer."""
        found = np.asarray([[best_of_n_mean(*row, n) for row in zip(parent.proxy, scores, strict=True)] for n in sizes])
        return (found - found[0]) / spread_of(scores)

    kl = np.repeat([[best_of_n_kl(n)] for n in sizes], len(parent.gold), axis=1)
    return Curve(kl, best(parent.gold), best(parent.proxy), [f"best of {n}" for n in sizes])


def run_curve(parent: Judged, after: Sequence[Judged], names: list[str]) -> Curve:
    """The checkpoints of a run against the parent's answers with the same seeds."""

    def gained(of: str) -> np.ndarray:
        before = getattr(parent, of)
        means = np.stack([getattr(found, of).mean(1) for found in after])
        return (means - before[:, : after[0].gold.shape[1]].mean(1)) / spread_of(before)

    return Curve(np.stack([found.kl.mean(1) for found in after]), gained("gold"), gained("proxy"), names)


def spread_of(scores: np.ndarray) -> float:
    return float(scores.std()) or 1.0


class Judge:
    """Samples policies on the same prompts and seeds, and has their answers judged by proxy and gold."""

    def __init__(self, job: Job, config: EvaluateConfig, prompts: Sequence[Prompt], pieces: int, tick: Tick) -> None:
        self.job, self.config, self.prompts, self.left, self.tick = job, config, prompts, pieces, tick
        self.parent, self.tokenizer = load_policy(job.input_path("parent")), load_tokenizer(job.input_path("parent"))
        self.judges = [load_judge(job.input_path(name)) for name in ("gold", "reward")]

    def ask(self, name: str, samples: int) -> Judged:
        """`samples` answers a prompt of the input of this name."""
        policy = self.parent if name == "parent" else load_policy(self.job.input_path(name))
        rows = [(prompt, number) for prompt in self.prompts for number in range(samples)]
        size, found = self.config.batch_size, []
        for part in (rows[i : i + size] for i in range(0, len(rows), size)):
            found += self._part(policy, part)
            self.left -= 1
            self.tick(self.left, f"answers of {name}")
        return Judged(*np.asarray(found, dtype=float).T.reshape(3, len(self.prompts), samples))

    def _part(self, policy: PreTrainedModel, part: Sequence[tuple[Prompt, int]]) -> list[tuple[float, float, float]]:
        asked = [prompt for prompt, _ in part]
        ids = [prompt_ids(self.tokenizer, self.parent, prompt, self.config) for prompt in asked]
        seeds = [seed_of(self.job.seed, prompt.id, number) for prompt, number in part]
        made = answers(policy, self.tokenizer, ids, seeds, self.config)
        texts = [(prompt.messages, one.text) for prompt, one in zip(asked, made, strict=True)]
        gold, proxy = (judged(judge, texts, self.config.max_length).tolist() for judge in self.judges)
        return list(zip(gold, proxy, self._distance(policy, ids, made), strict=True))

    def _distance(self, policy: PreTrainedModel, ids: Sequence[list[int]], made: Sequence[Sample]) -> list[float]:
        if policy is self.parent:
            return [0.0] * len(made)
        return log_ratios(policy, self.parent, ids, made, self.config, self.tokenizer.pad_token_id)


def read_points(path: str) -> tuple[Curve, list[Any]]:
    """Judgments made elsewhere, one a row: each distinct kl_nats is a point. Raises JobError naming the line."""
    rows = []
    for number, row in read_jsonl(path, "judgments"):
        numbers = [row.get("kl_nats"), row.get("gold")]
        if "prompt" not in row or not all(isinstance(n, int | float) and math.isfinite(n) for n in numbers):
            raise JobError(f'{path} line {number}: a judgment has "prompt" and the numbers "kl_nats" and "gold"')
        rows.append((str(row["prompt"]), *map(float, numbers)))
    prompts, distances = sorted({row[0] for row in rows}), sorted({row[1] for row in rows})
    if len(distances) < FEWEST_CHECKPOINTS:
        raise JobError(f"{path} has {len(distances)} distances; a curve needs at least {FEWEST_CHECKPOINTS}")
    total, count = np.zeros((2, len(distances), len(prompts)))
    for prompt, kl, gold in rows:
        place = distances.index(kl), prompts.index(prompt)
        total[place], count[place] = total[place] + gold, count[place] + 1
    gold = np.where(count > 0, total / np.maximum(count, 1), math.nan)
    kl = np.repeat(np.asarray(distances)[:, None], len(prompts), axis=1)
    return Curve(kl, gold, np.full_like(gold, math.nan), [f"{kl:g} nats" for kl in distances]), prompts


def curve_rows(curve: Curve, form: str) -> Iterator[dict[str, Any]]:
    """One row a point, with what the fitted curve says there."""
    distances, gold = points(curve, np.arange(curve.kl.shape[1]))
    found, proxy = fit(distances, gold, form), mean_of_rows(curve.proxy)
    fitted = shape(distances, form) @ [found.alpha, found.beta]
    for number, (name, distance) in enumerate(zip(curve.names, distances.tolist(), strict=True)):
        figures = {"gold": gold[number], "proxy": proxy[number], "fitted": fitted[number]}
        known = {key: float(value) if math.isfinite(value) else None for key, value in figures.items()}
        yield {"form": form, "point": name, "kl_nats": distance**2, "root_kl": distance, **known}
