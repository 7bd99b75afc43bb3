"""Make the demo's base model: pre-train on public-domain prose and training debates, fine-tune on their arguments.

`python3 manage.py bench demo_model --text PROSE.txt.gz --arguments UKP.jsonl.gz --output DIR` writes the checkpoint
that ships in labelapp/demo/base_model. Text of test debates is in no file that any stage trains on.
"""

from __future__ import annotations

import argparse
import gzip
import json
import subprocess
import sys
import time
from pathlib import Path
from resource import RUSAGE_CHILDREN, getrusage
from typing import Any

from alignment.config import Input, Job
from alignment.manifest import file_sha256, split_of, write_manifest
from benchmarks.model_card import readme_of

DEBATES = Path(__file__).parents[1] / "labelapp" / "demo" / "debates.json"
TEST_SHARE = 0.37  # the demo project's share of test debates: 5 of 16
ARGUMENT_COPIES = 2  # the arguments are under 3 % of the text, and the only modern English in it
PASSAGE, HELD_OUT_EVERY = 40, 25  # paragraphs a passage; every 25th passage is held out
UNSEEN = [
    "Argue that cities should build more bicycle lanes.",
    "Argue that every child should learn to swim.",
    "Argue that homework should be abolished.",
    "Argue that museums should be free.",
    "Argue that people should eat less meat.",
    "Argue that the working week should have four days.",
    "Argue that libraries should stay open at night.",
    "Argue that dogs are better pets than cats.",
    "Argue that zoos should be closed.",
    "Argue that everyone should learn a second language.",
]


def main(argv: list[str]) -> int:
    """Run the recipe and print one JSON line with the model's figures."""
    given = _arguments(argv)
    work, started = Path(given.work), time.monotonic()
    work.mkdir(parents=True, exist_ok=True)
    write_text(Path(given.text), Path(given.arguments), work)
    pretrained = run_stage(pretrain_job(work, given), work)
    tuned = run_stage(sft_job(work, given, pretrained["checkpoint"]), work)
    seconds = {"wall_seconds": round(time.monotonic() - started), "cpu_seconds": round(_child_seconds())}
    sources = {"prose": file_sha256(given.text), "arguments": file_sha256(given.arguments)}
    facts = publish(Path(tuned["checkpoint"]["path"]), pretrained, work, Path(given.output), seconds, sources)
    print(json.dumps(facts))
    return 0


def _arguments(argv: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="demo_model", description=__doc__)
    parser.add_argument("--text", required=True, help="public_domain_prose.txt.gz")
    parser.add_argument("--arguments", required=True, help="ukpconvarg1_full.jsonl.gz")
    parser.add_argument("--output", required=True, help="where the checkpoint goes")
    parser.add_argument("--work", default="var/bench/demo_model", help="texts, jobs and attempts")
    parser.add_argument("--epochs", type=int, default=6, help="of pre-training")
    parser.add_argument("--threads", type=int, default=1, help="two starve each other on a busy machine")
    parser.add_argument("--compile", action="store_true", help="needs a C++ compiler; about 1.5 times as fast")
    parser.add_argument("--weight-decay", type=float, default=0.3)
    parser.add_argument("--max-steps", type=int, default=0)
    return parser.parse_args(argv)


def _child_seconds() -> float:
    used = getrusage(RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def write_text(prose: Path, arguments: Path, work: Path) -> None:
    """The four text files and two dialogue files that the stages read."""
    kept, held_out = split_prose(gzip.open(prose, "rt", encoding="utf-8").read())
    debates = json.loads(DEBATES.read_text())
    split: dict[str, list[dict[str, str]]] = {"train": [], "test": []}
    for topic, argument in read_arguments(arguments):
        row = {"prompt": debates[topic]["prompt"], "completion": argument}
        split[split_of(debates[topic]["debate"], TEST_SHARE)].append(row)
    texts = {name: [row["completion"].replace("\n\n", "\n") for row in rows] for name, rows in split.items()}
    (work / "prose-train.txt").write_text("\n\n".join(kept))
    (work / "prose-held-out.txt").write_text("\n\n".join(held_out))
    (work / "arguments-train.txt").write_text("\n\n".join(texts["train"]))
    (work / "arguments-test-debates.txt").write_text("\n\n".join(texts["test"]))
    for name, rows in split.items():
        (work / f"dialogues-{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))


def split_prose(text: str) -> tuple[list[str], list[str]]:
    """(training, held-out) paragraphs: every 25th passage of 40 is held out, and no paragraph is in both or twice."""
    paragraphs = list(dict.fromkeys(part.strip() for part in text.split("\n\n") if part.strip()))
    held_out = [p for i, p in enumerate(paragraphs) if i // PASSAGE % HELD_OUT_EVERY == HELD_OUT_EVERY - 1]
    apart = set(held_out)
    return [p for p in paragraphs if p not in apart], held_out


def read_arguments(path: Path) -> list[tuple[str, str]]:
    """(topic, argument), each argument once, its lines trimmed."""
    found: dict[tuple[str, str], None] = {}
    with gzip.open(path, "rt", encoding="utf-8") as stream:
        for line in stream:
            row = json.loads(line)
            for side in ("a1", "a2"):
                found[row["topic"], tidy(row[side])] = None
    return list(found)


def tidy(text: str) -> str:
    return "\n".join(line.strip() for line in text.splitlines() if line.strip())


def pretrain_job(work: Path, given: argparse.Namespace) -> Job:
    arguments = [str(work / "arguments-train.txt")] * ARGUMENT_COPIES
    return Job(
        stage="pretrain",
        inputs={},
        config={
            "text": [str(work / "prose-train.txt"), *arguments],
            "held_out_text": [str(work / "prose-held-out.txt"), str(work / "arguments-test-debates.txt")],
            "vocabulary": 4096,
            "width": 256,
            "depth": 8,
            "heads": 4,
            "context": 512,
            "precision": "auto",
            "compile": given.compile,
            "optimization": {
                "learning_rate": 1.5e-3,
                "batch_size": 8,
                "epochs": given.epochs,
                "max_steps": given.max_steps,
                "warmup_share": 0.03,
                "weight_decay": given.weight_decay,
                "checkpoint_every": 50,
            },
        },
        output=str(work / "pretrain"),
        threads=given.threads,
    )


def sft_job(work: Path, given: argparse.Namespace, parent: dict[str, str]) -> Job:
    return Job(
        stage="sft",
        inputs={"parent": Input(**parent)},
        config={
            "rows": str(work / "dialogues-train.jsonl"),
            "held_out_rows": str(work / "dialogues-test.jsonl"),
            "max_length": 512,
            "optimization": {"learning_rate": 3e-4, "batch_size": 16, "epochs": 3, "weight_decay": 0.1},
        },
        output=str(work / "sft"),
        threads=given.threads,
    )


def run_stage(job: Job, work: Path) -> dict[str, Any]:
    """Run one stage as the worker would; an earlier attempt in the same folder is continued or, if done, reused."""
    path, result = work / f"{job.stage}.json", Path(job.output) / "result.json"
    if result.is_file() and json.loads(result.read_text())["status"] == "done":
        return json.loads(result.read_text())
    resume = job.output if Path(job.output).is_dir() else None
    Job(**{**vars(job), "resume_from": resume}).dump(path)
    subprocess.run([sys.executable, "-m", "alignment", job.stage, str(path)], check=True)
    return json.loads(result.read_text())


def publish(
    tuned: Path, pretrained: dict[str, Any], work: Path, output: Path, seconds: dict[str, int], sources: dict[str, str]
) -> dict[str, Any]:
    """Measure the final weights, sample from them, and write the checkpoint with the whole story on its card."""
    from alignment.data.documents import read_documents
    from alignment.data.text import load_tokenizer
    from alignment.models.checkpoints import load_policy, save_checkpoint
    from alignment.pretrain import baselines_of, bits_per_byte

    model, tokenizer = load_policy(tuned), load_tokenizer(tuned)
    seen = [document for name in ("prose-train.txt", "arguments-train.txt") for document in read_documents(work / name)]
    known = baselines_of(tokenizer, seen)
    figures = [
        bits_per_byte(model, tokenizer, known, read_documents(work / name), name)
        for name in ("prose-held-out.txt", "arguments-test-debates.txt")
    ]
    first = json.loads((Path(pretrained["checkpoint"]["path"]) / "card.json").read_text())
    last = json.loads((tuned / "card.json").read_text())
    card = {**last, "sources": sources, "pretraining": first, "final_bits_per_byte": figures, **seconds}
    card["samples"] = samples_of(model, tokenizer)
    save_checkpoint(model, tokenizer, output, card)
    (output / "README.md").write_text(readme_of(card, vocabulary=len(tokenizer)))
    digest = write_manifest(output, kind="checkpoint")  # again: the page belongs to the artifact
    return {"sha256": digest, "parameters": first["parameters"], "bits_per_byte": figures, **seconds}


def samples_of(model: Any, tokenizer: Any) -> list[dict[str, Any]]:
    """20 uncurated answers, seeds 0 to 19, to prompts that no stage has trained on."""
    from alignment.data.text import encode_prompt
    from alignment.generate import sample

    debates = json.loads(DEBATES.read_text()).values()
    tests = [d["prompt"] for d in debates if split_of(d["debate"], TEST_SHARE) == "test"]
    prompts = [*tests, *UNSEEN][:20]
    encoded = [encode_prompt(tokenizer, prompt) for prompt in prompts]
    settings = {"max_new_tokens": 120, "temperature": 0.8, "top_p": 0.95}
    made = sample(model, tokenizer, encoded, seeds=list(range(20)), batch_size=20, **settings)
    rows = enumerate(zip(prompts, made, strict=True))
    return [{"prompt": prompt, "seed": seed, **settings, "text": made.text} for seed, (prompt, made) in rows]
