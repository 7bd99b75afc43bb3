"""A policy against its parent: the same prompts and seeds, judged by a reward model, with the distance they moved.

DPO learns from the labels that the reward model learns from, so a win rate under it says that training did what it was
told, not that people agree.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from itertools import combinations
from typing import Any, NamedTuple

import numpy as np
import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from alignment.config import EvaluateConfig, Job, JobError
from alignment.data.batches import mask_of, pad
from alignment.data.pairs import read_pairs
from alignment.data.rows import read_jsonl
from alignment.data.text import Messages, encode_prompt, load_tokenizer
from alignment.guards import repetition
from alignment.measures.baselines import correct
from alignment.measures.figures import Measure, Resampling, mean_of, metric
from alignment.measures.statistics import cluster_rows, length_controlled_share
from alignment.measures.values import item_of
from alignment.models.checkpoints import load_policy
from alignment.models.logprob import completion_logprobs
from alignment.sampling.decode import Sample, sample, seed_of
from alignment.sampling.judge import judged, load_judge

Tick = Callable[..., None]  # tick(pieces still to come, name of the work)

SAMPLING = "samples of policy and parent"  # what the phase is called


class Prompt(NamedTuple):
    id: Any
    messages: Messages


class Answers(NamedTuple):
    """One policy's answers, in the order of prompts and then samples."""

    samples: list[Sample]
    rewards: np.ndarray


def compare_policies(
    job: Job, config: EvaluateConfig, prompts: Sequence[Prompt], how: Resampling, tick: Tick
) -> tuple[list[list[Measure]], list[dict[str, Any]], list[dict[str, Any]]]:
    """(measures of policy and parent, the policy's metrics, rows of samples.jsonl).

    Inputs: policy, parent, reward, snapshot.
    """
    policy, parent = load_policy(job.input_path("policy")), load_policy(job.input_path("parent"))
    tokenizer, judge = load_tokenizer(job.input_path("policy")), load_judge(job.input_path("reward"))
    repeated = [(prompt, number) for prompt in prompts for number in range(config.samples)]
    parts = [repeated[i : i + config.batch_size] for i in range(0, len(repeated), config.batch_size)]
    ours, theirs, drift = [], [], []
    for number, part in enumerate(parts, start=1):
        ids = [prompt_ids(tokenizer, policy, prompt, config) for prompt, _ in part]
        seeds = [seed_of(job.seed, prompt.id, i) for prompt, i in part]
        made = [answers(model, tokenizer, ids, seeds, config) for model in (policy, parent)]
        for found, samples in zip((ours, theirs), made, strict=True):
            texts = [(prompt.messages, made.text) for (prompt, _), made in zip(part, samples, strict=True)]
            found += list(zip(samples, judged(judge, texts, config.max_length).tolist(), strict=True))
        drift += log_ratios(policy, parent, ids, made[0], config, tokenizer.pad_token_id)
        tick(len(parts) - number, SAMPLING)
    a, b = (Answers([s for s, _ in rows], np.asarray([r for _, r in rows])) for rows in (ours, theirs))
    groups = [prompt.id for prompt, _ in repeated]
    items = [item_of(prompt.messages, number) for prompt, number in repeated]
    arms = policy_measures(a, b, np.asarray(drift), groups, items)
    return arms, [metric(measure, how) for measure in arms[0]], list(sample_rows(repeated, a, b, drift))


def enough_samples(config: EvaluateConfig, prompts: int) -> EvaluateConfig:
    """The config with as many samples a prompt as `answers` asks for."""
    return replace(config, samples=max(config.samples, -(-config.answers // max(1, prompts))))


def sample_batches(prompts: Sequence[Prompt], config: EvaluateConfig) -> int:
    """Pieces of work that `compare_policies` will report."""
    return -(-len(prompts) * config.samples // config.batch_size)


def read_prompts(job: Job, config: EvaluateConfig) -> list[Prompt]:
    """At most max_prompts prompts, evenly spaced: of the file, else the snapshot's held-out ones. Raises JobError."""
    if config.prompts:
        rows = [row for _, row in read_jsonl(config.prompts, "prompts")]
        if any(not {"id", "messages"} <= set(row) for row in rows):
            raise JobError(f'{config.prompts}: every prompt has "id" and "messages"')
        found = [Prompt(row["id"], row["messages"]) for row in rows]
    else:
        held_out = {str(pair.prompt): pair.prompt for pair in read_pairs(job.input_path("snapshot"), "test")}
        found = [Prompt(number, messages) for number, messages in enumerate(held_out.values())]
    if not found:
        raise JobError(
            "there is no prompt to compare the policies on: name a file in prompts or freeze a test split"
        )
    return [found[i] for i in np.linspace(0, len(found) - 1, min(len(found), config.max_prompts)).astype(int)]


def prompt_ids(
    tokenizer: PreTrainedTokenizerBase, model: PreTrainedModel, prompt: Prompt, config: EvaluateConfig
) -> list[int]:
    """The end of the prompt that leaves room for the answer."""
    return encode_prompt(tokenizer, prompt.messages)[
        -(model.config.max_position_embeddings - config.max_new_tokens) :
    ]


def answers(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    prompts: Sequence[list[int]],
    seeds: Sequence[int],
    config: EvaluateConfig,
) -> list[Sample]:
    return sample(
        model,
        tokenizer,
        prompts,
        seeds=seeds,
        max_new_tokens=config.max_new_tokens,
        temperature=config.temperature,
        top_p=1.0,  # cut tails would make the log-ratios below wrong
        batch_size=config.batch_size,
    )


@torch.no_grad()
def log_ratios(
    policy: PreTrainedModel,
    parent: PreTrainedModel,
    prompts: Sequence[list[int]],
    samples: Sequence[Sample],
    config: EvaluateConfig,
    pad_id: int,
) -> list[float]:
    """log policy - log parent in nats of each of the policy's own answers: their mean estimates the KL."""
    rows = [[*prompt, *found.ids] for prompt, found in zip(prompts, samples, strict=True)]
    marks = [[0] * len(prompt) + [1] * len(found.ids) for prompt, found in zip(prompts, samples, strict=True)]
    ids, mask, answer = pad(rows, pad_id), mask_of(rows), pad(marks, 0).bool()
    ids, mask, answer = ids.to(policy.device), mask.to(policy.device), answer.to(policy.device)
    ours, theirs = (
        completion_logprobs(m, ids, mask, answer, config.temperature).sum(1) for m in (policy, parent)
    )
    return (ours - theirs).tolist()


def policy_measures(
    policy: Answers, parent: Answers, drift: np.ndarray, groups: Sequence[Any], items: Sequence[str]
) -> list[list[Measure]]:
    """The policy's figures, and the parent's on the same items: against itself it wins half and gains nothing."""
    wins = correct(policy.rewards - parent.rewards)
    longer = np.asarray([len(a.ids) - len(b.ids) for a, b in zip(policy.samples, parent.samples, strict=True)])
    scaled = np.tanh(longer / (longer.std() or 1.0))
    spread = float(parent.rewards.std()) or float("nan")

    def beside(key: str, unit: str, of: Callable[[Sample], float]) -> tuple[Measure, Measure]:
        ours, theirs = (np.asarray([of(s) for s in found.samples], dtype=float) for found in (policy, parent))
        baselines = {"parent": float(theirs.mean())}
        return (
            Measure(key, unit, mean_of(ours), groups, baselines=baselines, items=items),
            Measure(key, unit, mean_of(theirs), groups, items=items),
        )

    def against_parent(key: str, unit: str, values: np.ndarray, even: float, *more: Any) -> tuple[Measure, Measure]:
        return (
            Measure(key, unit, mean_of(values), groups, *more, items=items),
            Measure(key, unit, mean_of(np.full(len(values), even)), groups, items=items),
        )

    wins_and_gains = [
        against_parent("win_rate", "share", wins, 0.5, "under the reward model, against the parent", {"parent": 0.5}),
        against_parent("reward_gain", "sd", (policy.rewards - parent.rewards) / spread, 0.0,
                       "in standard deviations of the parent's rewards"),
    ]  # fmt: skip
    described = [
        beside("mean_length_tokens", "tokens", lambda s: len(s.ids)),
        beside("end_of_text_rate", "share", lambda s: s.finished),
        beside("repetition", "share", lambda s: repetition(s.ids)),
    ]
    alone = [
        Measure("win_rate_length_controlled", "share", lambda rows: length_controlled_share(wins[rows], scaled[rows]),
                groups, "where both answers are equally long, by a logistic model", {"parent": 0.5}),
        Measure("kl_to_parent", "nats per answer", mean_of(drift), groups, "estimated from the policy's own samples"),
        *diversity_measures(policy.samples, parent.samples, groups),
    ]  # fmt: skip
    won, gained = wins_and_gains
    ours = [won[0], alone[0], gained[0], alone[1], *(pair[0] for pair in described), *alone[2:]]
    return [ours, [won[1], gained[1], *(pair[1] for pair in described)]]


def diversity_measures(policy: Sequence[Sample], parent: Sequence[Sample], groups: Sequence[Any]) -> list[Measure]:
    """How different the answers to one prompt are, as means over prompts, beside the parent's."""
    rows = cluster_rows(groups)
    prompts = [groups[members[0]] for members in rows]
    found = []
    for key, of in (("distinct_1", partial(distinct, size=1)), ("distinct_2", partial(distinct, size=2)),
                    ("answer_overlap", overlap)):  # fmt: skip
        ours, theirs = (
            np.asarray([of([samples[i].ids for i in members]) for members in rows]) for samples in (policy, parent)
        )
        baselines = {"parent": float(np.nanmean(theirs))} if np.isfinite(theirs).any() else None
        found.append(Measure(key, "share", mean_of(ours), prompts, "over the answers to one prompt", baselines))
    return found


def distinct(answers: Sequence[Sequence[int]], size: int) -> float:
    """Share of the token runs of this size that are different, over all answers to a prompt: 1 where none comes twice.

    Source: Li et al. 2016, arXiv:1510.03055, section 4.
    """
    runs = [tuple(ids[i : i + size]) for ids in answers for i in range(len(ids) - size + 1)]
    return len(set(runs)) / len(runs) if runs else math.nan


def overlap(answers: Sequence[Sequence[int]]) -> float:
    """Mean over pairs of answers of the share of their tokens that both use; NaN for one answer."""
    sets = [set(ids) for ids in answers]
    shares = [len(a & b) / len(a | b) for a, b in combinations(sets, 2) if a | b]
    return float(np.mean(shares)) if shares else math.nan


def sample_rows(
    repeated: Sequence[tuple[Prompt, int]], policy: Answers, parent: Answers, drift: Sequence[float]
) -> Iterator[dict[str, Any]]:
    """One row a prompt and seed: both answers with their rewards."""
    for i, (prompt, number) in enumerate(repeated):
        row = {
            "prompt_id": prompt.id,
            "sample": number,
            "messages": prompt.messages,
            "log_ratio_nats": drift[i],
        }
        for name, found in (("policy", policy), ("parent", parent)):
            s = found.samples[i]
            row[name] = {
                "text": s.text,
                "reward": float(found.rewards[i]),
                "tokens": len(s.ids),
                "finished": s.finished,
            }
        yield row
