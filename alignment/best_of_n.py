"""The stage `best_of_n`: sample n completions of each prompt, keep the best by reward, as rows that `sft` reads.

Inputs: policy (or parent); a reward model for each term of the reward that asks for one; snapshot where no prompts are
named. With a threshold or a top share it is rejection sampling.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from alignment import dry
from alignment.config import BestOfNConfig, Job, JobError, Stopped
from alignment.data.text import load_tokenizer
from alignment.dry import timed
from alignment.loop import StopSignal
from alignment.manifest import file_sha256
from alignment.measures.figures import Measure, Resampling, mean_of, metric
from alignment.metrics import Metrics
from alignment.models.checkpoints import load_policy
from alignment.sampling.rewards import Source, reward_sources, rewards_of
from alignment.sampling.rollouts import Prompt, read_prompts, sample_completions
from alignment.state import identity

SAMPLES = "completions.jsonl"  # every completion with its reward
PLAN = "completions.job.json"
ROWS = "rows.jsonl"  # those that were kept


class Sampler(NamedTuple):
    """All that completions are made and judged with."""

    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    sources: list[Source]


def run(job: Job, config: BestOfNConfig) -> dict[str, Any]:
    """Write completions.jsonl and rows.jsonl, and say how much was gained."""
    sampler, prompts = open_sampler(job, config)
    asked, took = len(prompts), []
    prompts = prompts[: config.sampling.prompts] if job.dry_run else prompts
    with timed(took):
        samples = sample_all(job, config, sampler, prompts)
    kept, unfinished = select(samples, config)
    if job.dry_run:
        kept = stood_in(job, kept or samples, asked, len(prompts), took)
    path = Path(job.output) / ROWS
    messages = {str(prompt.id): prompt.messages for prompt in prompts}
    path.write_text("".join(line(sft_row(row, messages[str(row["id"])])) for row in kept))
    rows = {"path": str(path), "sha256": file_sha256(path), "rows": len(kept), "unfinished_left_out": unfinished}
    return {"checkpoint": None, "rows": rows, "metrics": metrics_of(samples, config, job.seed)}


def stood_in(
    job: Job, rows: list[dict[str, Any]], asked: int, taken: int, took: list[float]
) -> list[dict[str, Any]]:
    """The rows of a dry run as often as it takes to stand for all prompts', so that sft after it has as many steps."""
    each = dry.mean(took) / taken
    dry.note(job.output, steps=asked, taken=taken, step_seconds=each, left_out=each * (asked - taken))
    return [rows[i % len(rows)] for i in range(round(len(rows) * asked / taken))]


def open_sampler(job: Job, config: BestOfNConfig) -> tuple[Sampler, list[Prompt]]:
    """Raises JobError for a missing input, and for two prompts of one id: their samples would be the same."""
    given = job.inputs.get("policy") or job.inputs.get("parent")
    if given is None:
        raise JobError("best_of_n needs the input 'policy', the checkpoint to sample from")
    model, tokenizer = load_policy(given.path), load_tokenizer(given.path)
    snapshot = job.input_path("snapshot") if "snapshot" in job.inputs else None
    room = model.config.max_position_embeddings - config.sampling.max_new_tokens
    prompts = read_prompts(config.prompts, snapshot, tokenizer, room=room)
    prompts = prompts[: config.max_prompts] if config.max_prompts else prompts
    ids = [str(prompt.id) for prompt in prompts]
    if twice := next((name for name in ids if ids.count(name) > 1), None):
        raise JobError(f"two prompts have the id {twice!r}; give each prompt of {config.prompts} an id of its own")
    sources = reward_sources(job, config.reward.terms, max_length=config.reward.max_length)
    return Sampler(model, tokenizer, sources), prompts


def sample_all(
    job: Job, config: BestOfNConfig, sampler: Sampler, prompts: Sequence[Prompt]
) -> list[dict[str, Any]]:
    """Every completion with its reward, prompt by prompt; those of the attempt being resumed are taken over."""
    size, n = config.sampling.prompts, config.sampling.completions
    samples = earlier_samples(job, size * n, len(prompts) * n)
    stop, metrics = StopSignal(), Metrics(job.output, len(prompts))
    (Path(job.output) / PLAN).write_text(json.dumps(identity(job)))
    with open(Path(job.output) / SAMPLES, "w") as stream:
        stream.writelines(map(line, samples))
        stream.flush()
        while len(samples) < len(prompts) * n:
            done = len(samples) // n
            made = list(judged(sampler, prompts[done : done + size], config, job.seed))
            stream.writelines(map(line, made))
            stream.flush()
            samples += made
            done = len(samples) // n
            metrics.write(done, **chunk_figures(made, n))
            if stop.requested and done < len(prompts):
                raise Stopped(f"stopped after prompt {done} of {len(prompts)}")
    return samples


def judged(sampler: Sampler, prompts: Sequence[Prompt], config: BestOfNConfig, seed: int) -> Iterator[dict[str, Any]]:
    """The completions of these prompts, in their order. Each has a seed of its own: no other one changes it."""
    model, tokenizer, sources = sampler
    made = sample_completions(model, tokenizer, prompts, config.sampling, seed=seed, occasion=["best of n"])
    rewards = rewards_of(made, sources, config.reward).total.tolist()
    for number, (completion, reward) in enumerate(zip(made, rewards, strict=True)):
        prompt, found = completion
        yield {
            "id": prompt.id,
            "sample": number % config.sampling.completions,
            "text": found.text,
            "tokens": len(found.ids),
            "finished": found.finished,
            "reward": reward,
        }


def earlier_samples(job: Job, chunk: int, most: int) -> list[dict[str, Any]]:
    """The whole chunks that the resumed attempt wrote before it ended. Raises JobError where it was another job."""
    before = Path(job.resume_from) if job.resume_from else None
    if before is None or not (before / PLAN).is_file() or not (before / SAMPLES).is_file():
        return []
    if json.loads((before / PLAN).read_text()) != identity(job):
        raise JobError(f"{before} belongs to another job; resume with the same stage, inputs, config and seed")
    lines = (before / SAMPLES).read_text(errors="replace").split("\n")[:-1][:most]
    whole = len(lines) if len(lines) == most else len(lines) - len(lines) % chunk
    return [json.loads(found) for found in lines[:whole]]


def select(samples: Sequence[dict[str, Any]], config: BestOfNConfig) -> tuple[list[dict[str, Any]], int]:
    """(kept, left out): what the config keeps, in the samples' order, without what met the limit before its end.

    An answer that was cut off would teach a policy to stop in the middle of a sentence.
    """
    if config.select == "threshold":
        chosen = [row for row in samples if row["reward"] >= config.threshold]
    elif config.select == "top_share":
        chosen = top_share(samples, config.top_share)
    else:
        chosen = best_of_each(samples, config.sampling.completions)
    kept = [row for row in chosen if row["finished"]]
    return kept, len(chosen) - len(kept)


def best_of_each(samples: Sequence[dict[str, Any]], n: int) -> list[dict[str, Any]]:
    """The best of every n samples; of equals the first."""
    return [max(samples[i : i + n], key=lambda row: row["reward"]) for i in range(0, len(samples), n)]


def top_share(samples: Sequence[dict[str, Any]], share: float) -> list[dict[str, Any]]:
    """The best of all samples whatever their prompt, in their order; of equals the first."""
    order = sorted(range(len(samples)), key=lambda i: -samples[i]["reward"])
    return [samples[i] for i in sorted(order[: max(1, round(share * len(samples)))])]


def sft_row(row: dict[str, Any], messages: list[dict[str, str]]) -> dict[str, Any]:
    return {"prompt": messages, "completion": row["text"], "id": row["id"], "reward": row["reward"]}


def line(row: dict[str, Any]) -> str:
    return json.dumps(row, ensure_ascii=False) + "\n"


def chunk_figures(samples: Sequence[dict[str, Any]], n: int) -> dict[str, float]:
    rewards = np.array([row["reward"] for row in samples]).reshape(-1, n)
    tokens = float(np.mean([row["tokens"] for row in samples]))
    return {"reward": float(rewards.mean()), "best_reward": float(rewards.max(1).mean()), "completion_tokens": tokens}


def metrics_of(samples: Sequence[dict[str, Any]], config: BestOfNConfig, seed: int) -> list[dict[str, Any]]:
    """Mean reward of the best of k of each prompt for k = 1, 2, 4 ... n, and the gain, with intervals over prompts."""
    n = config.sampling.completions
    rewards = np.array([row["reward"] for row in samples]).reshape(-1, n)  # (P, n)
    how, groups = Resampling(config.bootstrap, seed), range(len(rewards))
    found = []
    for k in sorted({2**power for power in range(n.bit_length()) if 2**power <= n} | {n}):
        measure = Measure(f"best_of_{k}_reward", "reward", mean_of(best_of_k(rewards, k)), groups)
        found.append({**metric(measure, how), "kl_nats": best_of_n_kl(k)})
    gain = Measure("best_of_n_gain", "reward", mean_of(rewards.max(1) - rewards.mean(1)), groups, "best minus mean")
    kl = {"key": "best_of_n_kl", "value": best_of_n_kl(n), "n": n, "unit": "nats", "note": "analytic, an upper bound"}
    finished = float(np.mean([row["finished"] for row in samples]))
    share = {"key": "finished_share", "value": finished, "n": len(samples), "unit": "share"}
    return [*found, metric(gain, how), kl, share]


def best_of_k(rewards: np.ndarray, k: int) -> np.ndarray:
    """(P,) expected maximum of k of the n samples of each of P prompts, rewards (P, n): over all ways to draw k.

    Source: Nakano et al. 2021, arXiv:2112.09332, appendix I.
    """
    n = rewards.shape[1]
    weights = np.array([math.comb(i, k - 1) for i in range(n)]) / math.comb(n, k)  # of the i-th smallest
    return np.sort(rewards, axis=1) @ weights


def best_of_n_kl(n: int) -> float:
    """KL in nats of the best of n to the policy it was sampled from; an upper bound where samples can be equal.

    Source: Stiennon et al. 2020, arXiv:2009.01325, appendix G.3; the bound: Beirami et al. 2024, arXiv:2401.01879.
    """
    return math.log(n) - (n - 1) / n
