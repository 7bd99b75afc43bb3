"""The work that `bench trainers` gives to either side: models of random weights, real pairs, and what they cost."""

from __future__ import annotations

import json
import resource
import shutil
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from transformers import LlamaConfig, LlamaForCausalLM

from alignment.config import Input, Job
from alignment.data.batches import batch_at
from alignment.data.pairs import EncodedPair, encode_pairs, read_pairs
from alignment.data.rows import read_jsonl, write_jsonl
from alignment.data.text import load_tokenizer
from alignment.manifest import file_sha256, write_manifest

PAIRS = Path(__file__).parent / "pairs" / "hh_harmless.jsonl.gz"
TOKENIZER = Path(__file__).parents[1] / "labelapp" / "demo" / "base_model"
BATCH = 16
LONGEST, NEW_TOKENS, GROUP = 512, 64, 8
PLAN = {"learning_rate": 1e-4, "schedule": "constant", "warmup_share": 0.0, "batch_size": BATCH}
SHAPES = {  # width, intermediate width, depth, heads: 3.9 and 29.4 million weights under the demo's vocabulary
    "4m": (192, 512, 7, 6),
    "30m": (512, 1536, 8, 8),
}
STEPS = {"4m": 4, "30m": 2}


class Task(NamedTuple):
    """One comparison, such as dpo_precomputed_4m."""

    name: str

    @property
    def size(self) -> str:
        return self.name.rpartition("_")[2]

    @property
    def method(self) -> str:
        return self.name.rpartition("_")[0]

    @property
    def stage(self) -> str:
        return {"dpo": "preference", "dpo_precomputed": "preference"}.get(self.method, self.method)

    @property
    def steps(self) -> int:
        return STEPS[self.size]


METHODS = ("sft", "reward", "dpo", "dpo_precomputed", "grpo")
TASKS = [Task(f"{method}_{size}") for size in SHAPES for method in METHODS]


def prepare(work: Path, tasks: Iterable[Task]) -> None:
    """Write the models and the rows that the tasks name, a folder a size."""
    for size in {task.size for task in tasks}:
        (work / size).mkdir(parents=True)
        write_model(work / size / "policy", size)
        write_rows(work / size, BATCH * STEPS[size])


def write_model(directory: Path, size: str) -> None:
    torch.manual_seed(0)
    width, wide, depth, heads = SHAPES[size]
    tokenizer = load_tokenizer(TOKENIZER)
    ends = {"bos_token_id": None, "eos_token_id": tokenizer.eos_token_id, "pad_token_id": tokenizer.pad_token_id}
    shape = {"hidden_size": width, "intermediate_size": wide, "num_hidden_layers": depth, "num_attention_heads": heads}
    config = LlamaConfig(vocab_size=len(tokenizer), max_position_embeddings=LONGEST, tie_word_embeddings=True,
                         **shape, **ends)  # fmt: skip
    LlamaForCausalLM(config).save_pretrained(directory)
    tokenizer.save_pretrained(directory)
    shutil.copy(TOKENIZER / "chat_template.jinja", directory)


def write_rows(directory: Path, count: int) -> None:
    """A snapshot of `count` pairs, and their prompts and chosen completions as rows of sft and grpo."""
    rows = [pair_of(line, number) for number, line in read_jsonl(PAIRS, "pairs")]
    write_snapshot(directory / "all", rows)
    fits = [fitting(pair) for pair in read_pairs(directory / "all", "train")]
    rows = [row for row, fit in zip(rows, fits, strict=True) if fit][:count]
    write_snapshot(directory / "pairs", rows)
    write_jsonl(directory / "dialogues.jsonl", ({"prompt": r["prompt"], "completion": r["chosen"]} for r in rows))
    asked = [{"id": row["comparison"], "messages": row["prompt"]} for row in rows]
    write_jsonl(directory / "prompts.jsonl", asked[: prompts_of(count)])


def prompts_of(count: int) -> int:
    """Prompts of grpo: 32 completions a step, as many as a step of pairs has."""
    return count // BATCH * 2 * BATCH // GROUP


def fitting(pair: Any) -> bool:
    """Whether nobody has to cut the pair, nor the prompt with a sampled completion: the two sides cut differently."""
    (whole,), _ = encode_pairs(load_tokenizer(TOKENIZER), [pair], 10**6)
    return max(whole.tokens, len(whole.prompt) + NEW_TOKENS) <= LONGEST


def pair_of(line: dict[str, str], number: int) -> dict[str, Any]:
    """A row of HH as a row of a snapshot: the last answer is judged, all before it is the prompt."""
    prompt, chosen = turns(line["chosen"])
    _, rejected = turns(line["rejected"])
    return {"prompt": prompt, "chosen": chosen, "rejected": rejected, "group": str(number), "comparison": number}


def turns(text: str) -> tuple[list[dict], list[dict]]:
    """(the dialogue up to the last answer, the last answer) of HH's plain text."""
    head, _, answer = text.rpartition("\n\nAssistant:")
    messages = []
    for part in head.split("\n\nHuman:")[1:]:
        asked, *answers = part.split("\n\nAssistant:")
        messages.append({"role": "user", "content": asked.strip()})
        messages += [{"role": "assistant", "content": said.strip()} for said in answers]
    return messages, [{"role": "assistant", "content": answer.strip()}]


def write_snapshot(directory: Path, rows: Sequence[dict[str, Any]]) -> None:
    directory.mkdir()
    for name, found in (("pairs-train", rows), ("pairs-test", []), ("judgments", [])):
        write_jsonl(directory / f"{name}.jsonl", found)
    write_manifest(directory, kind="snapshot")


def job_of(task: Task, home: Path, output: Path, threads: int, precision: str) -> Job:
    """The job as the stage would be given it."""
    inputs = {"parent": Input(str(home / "policy"), file_sha256(home / "policy" / "model.safetensors"))}
    if task.stage in {"reward", "preference"}:
        inputs["snapshot"] = Input(str(home / "pairs"), file_sha256(home / "pairs" / "manifest.json"))
    output.mkdir()
    config = {**config_of(task, home), "precision": precision}
    return Job(task.stage, inputs, config, str(output), seed=0, threads=threads)


def config_of(task: Task, home: Path) -> dict[str, Any]:
    plan = {**PLAN, "checkpoint_every": 10**6}
    if task.stage == "sft":
        return {"rows": str(home / "dialogues.jsonl"), "max_length": LONGEST, "optimization": plan}
    if task.stage == "reward":
        return {"margin": "none", "centering": 0.0, "max_length": LONGEST, "optimization": plan}
    if task.stage == "preference":
        return {"beta": 0.1, "max_length": LONGEST, "optimization": plan}
    sampling = {"prompts": 2 * BATCH // GROUP, "completions": GROUP, "max_new_tokens": NEW_TOKENS}
    return {
        "loss": "grpo", "kl": {"beta": 0.04}, "reward": {"terms": [{"kind": "contains", "pattern": "the"}]},
        "prompts": str(home / "prompts.jsonl"), "held_out_prompts": 0, "sampling": sampling,
        "optimization": {**plan, "batch_size": 2 * BATCH, "adam_epsilon": 1e-8},
    }  # fmt: skip


def encoded_pairs(home: Path) -> list[EncodedPair]:
    return encode_pairs(load_tokenizer(home / "policy"), read_pairs(home / "pairs", "train"), LONGEST)[0]


def order_of(task: Task, lengths: Sequence[int]) -> list[int]:
    """The rows in the order in which our stage takes them, for the other side to take them in the same batches."""
    return [i for step in range(task.steps) for i in batch_at(lengths, batch_size=BATCH, seed=0, step=step)]


class Work(NamedTuple):
    """What a task amounts to, whoever does it: padding is not counted, and a shared prompt counts twice."""

    samples: int
    tokens: int
    gigaflop: float  # of matrix products as TRL runs them on real tokens: the backward pass costs two forward passes


def work_of(task: Task, home: Path) -> Work:
    """Pairs, dialogues or completions, their tokens, and the products they take."""
    pairs = encoded_pairs(home)
    rows = [(len(p.prompt), len(side)) for p in pairs for side in (p.chosen, p.rejected)]
    if task.stage == "grpo":
        rows = [(len(p.prompt), NEW_TOKENS) for p in pairs[: prompts_of(len(pairs))] for _ in range(GROUP)]
        flop = sum(5 * body_flop(task, sum(row)) + 5 * head_flop(task, NEW_TOKENS) for row in rows)
    elif task.stage == "preference":
        flop = sum(4 * body_flop(task, sum(row)) + 4 * head_flop(task, sum(row)) for row in rows)
    elif task.stage == "reward":
        flop = sum(3 * body_flop(task, sum(row)) for row in rows)
    else:
        rows = rows[::2]
        flop = sum(3 * body_flop(task, sum(row)) + 3 * head_flop(task, row[1]) for row in rows)
    samples = len(rows) if task.stage in {"sft", "grpo"} else len(pairs)
    return Work(samples, sum(map(sum, rows)), flop / 1e9)


def body_flop(task: Task, tokens: int) -> float:
    """One forward pass of one text: four square and three wide products a layer, and causal attention."""
    width, wide, depth, _ = SHAPES[task.size]
    return depth * (2 * tokens * (4 * width**2 + 3 * width * wide) + 2 * tokens**2 * width)


def head_flop(task: Task, tokens: int) -> float:
    return 2 * tokens * SHAPES[task.size][0] * len(load_tokenizer(TOKENIZER))


def peak_gflops() -> float:
    """The best of many fp32 matrix products, each so short (2 ms) that a busy machine lets some of them alone."""
    left, right = torch.randn(512, 512), torch.randn(512, 512)
    times = []
    for _ in range(500):
        started = time.perf_counter()
        left @ right
        times.append(time.perf_counter() - started)
    return 2 * 512**3 / min(times) / 1e9


def timed(run: Callable[[], Any], losses: Callable[[], list[float]]) -> None:
    """Run it and print what it took as one JSON line; the losses of its steps are read afterwards."""
    wall, cpu = time.perf_counter(), time.process_time()
    run()
    spent = {"seconds": time.perf_counter() - wall, "cpu_seconds": time.process_time() - cpu}
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(json.dumps({**spent, "peak_mib": peak, "losses": losses()}))
