"""The stage `generate`: completions of prompts by one policy, each with a seed of its own, as completions.jsonl."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, NamedTuple

from transformers import PreTrainedModel, PreTrainedTokenizerBase

from alignment import dry
from alignment.config import GenerateConfig, Job, JobError, Stopped
from alignment.data.rows import read_jsonl
from alignment.data.text import encode_prompt, load_tokenizer
from alignment.loop import StopSignal
from alignment.manifest import file_sha256
from alignment.metrics import Metrics
from alignment.models.checkpoints import load_policy
from alignment.sampling.decode import Sample, sample, seed_of
from alignment.state import identity

ROWS = "completions.jsonl"
PLAN = "completions.job.json"


class Request(NamedTuple):
    """One completion to make."""

    id: Any
    sample: int
    prompt: list[int]
    seed: int


def run(job: Job, config: GenerateConfig) -> dict[str, Any]:
    """Write one row a completion, in the order of the prompts. Input: policy (or parent)."""
    given = job.inputs.get("policy") or job.inputs.get("parent")
    if given is None:
        raise JobError("generate needs the input 'policy', the checkpoint to sample from")
    model, tokenizer = load_policy(given.path), load_tokenizer(given.path)
    requests = read_requests(config, tokenizer, job.seed)
    asked, took = len(requests), []
    requests = requests[: 2 * config.batch_size] if job.dry_run else requests  # what is written at once
    with dry.timed(took):
        rows = generate(job, config, model, tokenizer, requests)
    if job.dry_run:
        each = dry.mean(took) / len(rows)
        left_out = each * (asked - len(rows))
        dry.note(job.output, steps=asked, taken=len(rows), step_seconds=each, left_out=left_out)
    path = Path(job.output) / ROWS
    made = {"path": str(path), "sha256": file_sha256(path)}
    return {"checkpoint": None, "metrics": summary(rows), "completions": made}


def read_requests(config: GenerateConfig, tokenizer: PreTrainedTokenizerBase, seed: int) -> list[Request]:
    """Every prompt `samples` times. Raises JobError naming the line that cannot be read."""
    requests = []
    for number, row in read_jsonl(config.prompts, "prompts"):
        if not {"id", "messages"} <= set(row):
            raise JobError(f'{config.prompts} line {number}: a prompt has "id" and "messages"')
        prompt = encode_prompt(tokenizer, row["messages"])
        requests += [Request(row["id"], i, prompt, seed_of(seed, row["id"], i)) for i in range(config.samples)]
    if not requests:
        raise JobError(f"{config.prompts} holds no prompt")
    return requests


def generate(
    job: Job,
    config: GenerateConfig,
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    requests: list[Request],
) -> list[dict[str, Any]]:
    """All rows, written a batch at a time; those of the attempt being resumed are taken over, not made again."""
    rows = earlier_rows(job, requests)
    stop, metrics = StopSignal(), Metrics(job.output, len(requests))
    (Path(job.output) / PLAN).write_text(json.dumps(identity(job)))
    with open(Path(job.output) / ROWS, "w") as stream:
        for row in rows:
            write_row(stream, row)
        stream.flush()
        while len(rows) < len(requests):
            part = requests[len(rows) : len(rows) + 2 * config.batch_size]
            made = complete(model, tokenizer, part, config)
            for request, found in zip(part, made, strict=True):
                rows.append(row_of(request, found, config))
                write_row(stream, rows[-1])
            stream.flush()
            metrics.write(len(rows), tokens=sum(row["tokens"] for row in rows))
            if stop.requested and len(rows) < len(requests):
                raise Stopped(f"stopped after completion {len(rows)} of {len(requests)}")
    return rows


def complete(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, part: list[Request], config: GenerateConfig
) -> list[Sample]:
    return sample(
        model,
        tokenizer,
        [request.prompt for request in part],
        seeds=[request.seed for request in part],
        max_new_tokens=config.max_new_tokens,
        temperature=config.temperature,
        top_p=config.top_p,
        batch_size=config.batch_size,
    )


def row_of(request: Request, found: Sample, config: GenerateConfig) -> dict[str, Any]:
    return {
        "id": request.id,
        "sample": request.sample,
        "text": found.text,
        "tokens": len(found.ids),
        "finished": found.finished,
        "seed": request.seed,
        "temperature": config.temperature,
        "top_p": config.top_p,
    }


def write_row(stream: Any, row: dict[str, Any]) -> None:
    stream.write(json.dumps(row, ensure_ascii=False) + "\n")


def earlier_rows(job: Job, requests: list[Request]) -> list[dict[str, Any]]:
    """The whole rows that the resumed attempt wrote before it ended; a torn last line is left out.

    A completion depends on its prompt and seed alone, so taking rows over gives what a new start would.
    """
    if not job.resume_from:
        return []
    before = Path(job.resume_from)
    if not (before / PLAN).is_file() or not (before / ROWS).is_file():
        return []
    if json.loads((before / PLAN).read_text()) != identity(job):
        raise JobError(f"{before} belongs to another job; resume with the same stage, inputs, config and seed")
    lines = (before / ROWS).read_text(errors="replace").split("\n")[:-1]
    return [json.loads(line) for line in lines[: len(requests)]]


def summary(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Mean length and the share of completions that the policy ended itself."""
    count = len(rows)
    return [
        {"key": "mean_tokens", "value": sum(r["tokens"] for r in rows) / count, "n": count, "unit": "tokens"},
        {"key": "finished_share", "value": sum(r["finished"] for r in rows) / count, "n": count, "unit": "share"},
    ]
