"""What a policy under training writes to the same few prompts, as it changes: `samples.jsonl`, for people to read."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

from transformers import PreTrainedModel, PreTrainedTokenizerBase

from alignment.config import Job
from alignment.data.rows import write_jsonl
from alignment.sampling.decode import sample

FILE = "samples.jsonl"
TOKENS = 96  # of an answer: enough to see its manner, few enough to cost little
ROOM = 256  # tokens of a prompt that are read and shown: its end


def shown(
    job: Job, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, prompts: Iterable[Sequence[int]], count: int
) -> Callable[[int], None] | None:
    """A function that answers the first `count` distinct prompts after a given step; nothing where count is 0.

    Answers are greedy, so that they differ only where the weights do, and no generator of the run is drawn from.
    """
    chosen = first_distinct(prompts, count)
    if not chosen:
        return None
    tokens = min(TOKENS, model.config.max_position_embeddings // 2)

    def show(step: int) -> None:
        found = sample(model, tokenizer, chosen, seeds=range(len(chosen)), max_new_tokens=tokens, temperature=0.0)
        texts = tokenizer.batch_decode(chosen, skip_special_tokens=True)
        told = [{"prompt": text, "completion": made.text, "finished": made.finished}
                for text, made in zip(texts, found, strict=True)]  # fmt: skip
        append(job, {"step": step, "samples": told})

    return show


def first_distinct(prompts: Iterable[Sequence[int]], count: int) -> list[list[int]]:
    found: dict[tuple[int, ...], None] = {}
    for prompt in prompts:
        if len(found) == count:
            break
        if prompt:
            found.setdefault(tuple(prompt[-ROOM:]))
    return [list(ids) for ids in found]


def append(job: Job, line: dict[str, Any]) -> None:
    """Add a line; the first of a resumed attempt comes behind those of the attempt before."""
    path = Path(job.output) / FILE
    if not path.exists() and job.resume_from:
        write_jsonl(path, earlier(Path(job.resume_from) / FILE, line["step"]))
    with open(path, "a") as stream:
        stream.write(json.dumps(line, ensure_ascii=False) + "\n")


def earlier(path: Path, step: int) -> list[dict[str, Any]]:
    """The lines before this step; a kill may have cut the last one short."""
    rows = []
    for text in path.read_text().splitlines() if path.is_file() else []:
        try:
            rows.append(json.loads(text))
        except ValueError:
            break
    return [row for row in rows if row["step"] < step]
