"""The stage `score`: what a reward model, member by member, and optionally two policies say of given answers.

Input: reward; policy and parent for the drift. Writes scores.jsonl, a row an answer in the order given. Whoever chooses
what to have judged next reads it.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from alignment.config import Job, JobError, ScoreConfig
from alignment.data.rows import read_jsonl, write_jsonl
from alignment.data.text import Messages, encode_completion, encode_prompt, load_tokenizer, truncate
from alignment.manifest import file_sha256
from alignment.models.checkpoints import load_policy
from alignment.models.scores import encode_text_row
from alignment.models.sequences import Passes, Row, frozen_logprobs
from alignment.progress import Progress
from alignment.sampling.judge import load_judge, member_scores

SCORES = "scores.jsonl"


class Answer(NamedTuple):
    """A prompt's id, its turns, and an answer to it."""

    id: Any
    messages: Messages
    text: str


def run(job: Job, config: ScoreConfig) -> dict[str, Any]:
    """Score every answer. Raises JobError for a row that cannot be read, or one policy without the other."""
    if ("policy" in job.inputs) != ("parent" in job.inputs):
        raise JobError("a drift is between two: name both inputs, policy and parent, or neither")
    answers, work = read_answers(config), Progress(job)
    asked = len(answers)
    if job.dry_run:  # two batches: between them lies what each of the others takes
        answers = answers[: 2 * config.batch_size]
    parts = [slice(start, start + config.batch_size) for start in range(0, len(answers), config.batch_size)]
    work.later = len(parts) if "policy" in job.inputs else 0
    scores = member_scores_of(job, config, answers, parts, work)
    work.later = 0
    rows = [{"id": answer.id, "scores": found} for answer, found in zip(answers, scores, strict=True)]
    if "policy" in job.inputs:
        for row, found in zip(rows, drifts(job, config, answers, parts, work), strict=True):
            row["drift_nats"] = found
    work.left_out(["scores", "drift"], whole=asked, taken=len(answers))
    path = Path(job.output) / SCORES
    write_jsonl(path, rows)
    means = [sum(row["scores"]) / len(row["scores"]) for row in rows]
    metrics = [{"key": "mean_score", "value": sum(means) / len(means), "n": len(means), "unit": "nats"}]
    return {"checkpoint": None, "scores": {"path": str(path), "sha256": file_sha256(path)}, "metrics": metrics}


def read_answers(config: ScoreConfig) -> list[Answer]:
    """The answers of the completions file, each with the turns of its prompt. Raises JobError naming the line."""
    prompts = {str(row.get("id")): row.get("messages") for _number, row in read_jsonl(config.prompts, "prompts")}
    answers = []
    for number, row in read_jsonl(config.completions, "completions"):
        if not isinstance(row.get("text"), str) or prompts.get(str(row.get("id"))) is None:
            raise JobError(f'{config.completions} line {number}: needs "text" and the "id" of a prompt')
        answers.append(Answer(row["id"], prompts[str(row["id"])], row["text"]))
    if not answers:
        raise JobError(f"{config.completions} holds no completion")
    return answers


def member_scores_of(
    job: Job, config: ScoreConfig, answers: Sequence[Answer], parts: Sequence[slice], work: Progress
) -> list[list[float]]:
    """Of each answer the scores in nats, one a member of the head."""
    judge, found = load_judge(job.input_path("reward"), head=config.head), []
    for number, part in enumerate(parts, 1):
        texts = [encode_text_row(judge.tokenizer, a.messages, a.text, config.max_length) for a in answers[part]]
        found += member_scores(judge, [[text] for text in texts]).tolist()
        work.tick(len(parts) - number, "scores")
    return found


def drifts(
    job: Job, config: ScoreConfig, answers: Sequence[Answer], parts: Sequence[slice], work: Progress
) -> list[float]:
    """log p of the answer under the policy less that under its parent, in nats a token of the answer."""
    path = job.input_path("policy")
    tokenizer = load_tokenizer(path)
    rows = [row_of(tokenizer, answer, config.max_length) for answer in answers]
    passes = Passes(tokenizer.pad_token_id)
    policy, parent = load_policy(path), load_policy(job.input_path("parent"))
    found = []
    for number, part in enumerate(parts, 1):
        gap = frozen_logprobs(policy, rows[part], passes) - frozen_logprobs(parent, rows[part], passes)
        found += [value / len(row.completion) for value, row in zip(gap.tolist(), rows[part], strict=True)]
        work.tick(len(parts) - number, "drift")
    return found


def row_of(tokenizer: Any, answer: Answer, max_length: int) -> Row:
    head, tail = encode_prompt(tokenizer, answer.messages), encode_completion(tokenizer, answer.messages, answer.text)
    return Row(*truncate(head, tail, max_length))
