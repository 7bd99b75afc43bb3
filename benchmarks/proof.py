"""The proof that learning works: a reward model and DPO raise a gold preference they never see, on prompts never seen.

`python3 manage.py bench proof` samples answers of the demo base model to debate topics, labels pairs of them by
`benchmarks._gold` with 20 % of the labels turned around, freezes them as a snapshot and drives the real stages
(`python -m alignment ...`). Gold gains are paired by held-out prompt. The control repeats DPO on shuffled labels.
Prints one JSON line; what is being done goes to stderr.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import resource
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from alignment.config import Input, Job
from alignment.manifest import MANIFEST, file_sha256, write_manifest
from alignment.measures.statistics import paired_t
from benchmarks._gold import Labeled, Sample, gold_score, label, shuffle_labels

DEMO = Path(__file__).parents[1] / "labelapp" / "demo"
HELD_OUT = 96  # prompts on which gains are measured
NOISE = 0.2
TRAIN_SAMPLES = 6  # answers a training prompt, compared two by two
TEST_SAMPLES = 4  # answers of the parent a held-out prompt, for the reward model's accuracy
EVALUATED = 8  # answers a held-out prompt and policy; also the n of best-of-n
SHUFFLES = 3
CONTROL_SAMPLES = 4  # answers a held-out prompt and control policy
BATCH = 96  # answers written at a time
NEW_TOKENS = 40
# glibc would hand every large buffer back to the kernel and fault its pages in again each step: a tenth of the time.
KEEP_MEMORY = {"MALLOC_MMAP_THRESHOLD_": str(2**30), "MALLOC_TRIM_THRESHOLD_": str(2**32)}
REWARD = {"margin": "none", "optimization": {"learning_rate": 3e-4, "batch_size": 16, "epochs": 2}}
DPO = {"beta": 0.1, "optimization": {"learning_rate": 2e-4, "batch_size": 16, "epochs": 1}}


class Bench(NamedTuple):
    """Where the proof works, and from what."""

    work: Path
    model: Input
    seed: int
    threads: int

    def stage(self, name: str, stage: str, config: dict[str, Any], **inputs: Input) -> dict[str, Any]:
        """Run one stage to its end and return result.json. Raises RuntimeError with the stage's own reason."""
        print(f"{name} ...", file=sys.stderr, flush=True)
        output, path = self.work / name, self.work / f"{name}.json"
        Job(stage, inputs, config, str(output), seed=self.seed, threads=self.threads).dump(path)
        environment = {**os.environ, **KEEP_MEMORY, "OMP_NUM_THREADS": str(self.threads)}
        subprocess.run([sys.executable, "-m", "alignment", stage, str(path)], env=environment, check=False)
        result = json.loads((output / "result.json").read_text())
        if result["status"] != "done":
            raise RuntimeError(f"{name} ended as {result['status']}: {result['reason']}")
        return result


def main(argv: Sequence[str] = ()) -> int:
    """Run the proof and print its figures as one JSON line. Exit code 0 however they turn out."""
    given = _arguments(argv)
    before = cpu_seconds()
    with tempfile.TemporaryDirectory(dir=given.work) as folder:
        model = Input(given.model, file_sha256(Path(given.model) / MANIFEST))
        bench = Bench(Path(folder), model, given.seed, given.threads)
        found = prove(bench, read_topics(given.topics))
    print(json.dumps({"seconds": round(cpu_seconds() - before, 1), **found}))
    return 0


def _arguments(argv: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="bench proof", description=__doc__.splitlines()[0])
    parser.add_argument(
        "--model", default=str(DEMO / "base_model"), help="checkpoint of the policy to start from"
    )
    parser.add_argument("--topics", default=str(DEMO / "topics.txt"), help="prompts, one a line")
    parser.add_argument("--work", default=None, help="folder for the intermediate files, removed at the end")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=1)
    return parser.parse_args(list(argv))


def cpu_seconds() -> float:
    """CPU seconds of this process and its finished children: a busy machine does not change them much."""
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(u.ru_utime + u.ru_stime for u in used)


def read_topics(path: str | Path) -> list[str]:
    return [line.strip() for line in Path(path).read_text().splitlines() if line.strip()]


def prove(bench: Bench, topics: list[str]) -> dict[str, Any]:
    """All figures besides the seconds."""
    generator = np.random.default_rng(bench.seed)
    order = generator.permutation(len(topics))
    held_out, training = [topics[i] for i in order[:HELD_OUT]], [topics[i] for i in order[HELD_OUT:]]
    prompts = write_prompts(bench.work / "held-out.jsonl", held_out)
    train = sampled(
        bench,
        "train-samples",
        bench.model,
        write_prompts(bench.work / "train.jsonl", training),
        TRAIN_SAMPLES,
    )
    test = sampled(bench, "test-samples", bench.model, prompts, TEST_SAMPLES)
    train_pairs, test_pairs = (
        label(neighbours(rows), noise=NOISE, generator=generator) for rows in (train, test)
    )
    snapshot = write_snapshot(bench.work / "snapshot", train_pairs, test_pairs)
    reward = trained(bench, "reward", "reward", REWARD, snapshot)
    policy = trained(bench, "dpo", "preference", DPO, snapshot)
    config = {"prompts": str(prompts), "max_prompts": HELD_OUT, "samples": EVALUATED, "max_new_tokens": NEW_TOKENS,
              "bootstrap": 100, "batch_size": BATCH}  # fmt: skip
    evaluated = bench.stage(
        "evaluation", "evaluate", config, snapshot=snapshot, reward=reward, policy=policy, parent=bench.model
    )
    samples = read_jsonl(bench.work / "evaluation" / "samples.jsonl")
    base = gold_by_prompt((row["prompt_id"], sample_of(row["parent"])) for row in samples)
    return {
        "reward": reward_figures(
            evaluated, read_jsonl(bench.work / "evaluation" / "items.jsonl"), test_pairs
        ),
        "dpo": policy_figures(evaluated, samples, base),
        "best_of_8": best_of_figures(samples, base),
        "shuffled_control": control_figures(bench, train_pairs, test_pairs, prompts, base),
    }


def reward_figures(
    evaluated: dict[str, Any], items: Iterable[dict], test: Sequence[Labeled]
) -> dict[str, float]:
    """Accuracy against the noisy labels, and against the gold order of the same pairs."""
    pairs = [row for row in items if row["kind"] == "pair"]
    right = [(row["chosen_score"] > row["rejected_score"]) == test[row["comparison"]].clean for row in pairs]
    return {
        "accuracy_noisy": rounded(metric(evaluated, "reward_accuracy")),
        "accuracy_clean": rounded(np.mean(right)),
    }


def policy_figures(
    evaluated: dict[str, Any], samples: list[dict], base: dict[Any, list[float]]
) -> dict[str, float]:
    """Gain in gold over the parent, its t paired by prompt, and the share of samples whose gold is the better one."""
    ours = gold_by_prompt((row["prompt_id"], sample_of(row["policy"])) for row in samples)
    wins = [np.sign(a - b) / 2 + 0.5 for key in base for a, b in zip(ours[key], base[key], strict=True)]
    gains = gains_by_prompt(ours, base)
    return {"gold_gain": rounded(np.mean(gains)), "t": rounded(paired_t(gains), 2), "win_rate": rounded(np.mean(wins)),
            "kl": rounded(metric(evaluated, "kl_to_parent"), 2)}  # fmt: skip


def best_of_figures(samples: list[dict], base: dict[Any, list[float]]) -> dict[str, float]:
    """What picking the parent's best answer by the reward model gains: training's yardstick. KL is log n - (n-1)/n."""
    best: dict[Any, tuple[float, float]] = {}
    for row in samples:
        found = (row["parent"]["reward"], gold_score(sample_of(row["parent"])))
        best[row["prompt_id"]] = max(best.get(row["prompt_id"], found), found)
    gains = [best[key][1] - np.mean(golds) for key, golds in base.items()]
    kl = math.log(EVALUATED) - (EVALUATED - 1) / EVALUATED
    return {"gold_gain": rounded(np.mean(gains)), "kl": rounded(kl, 2)}


def control_figures(
    bench: Bench, train: list[Labeled], test: list[Labeled], prompts: Path, base: dict[Any, list[float]]
) -> dict[str, float]:
    """DPO on the same pairs with labels shuffled: mean gain and mean t of the shuffles."""
    gains = []
    for number in range(SHUFFLES):
        shuffled = shuffle_labels(train, np.random.default_rng([bench.seed, number, 2]))
        snapshot = write_snapshot(bench.work / f"snapshot-{number}", shuffled, test)
        policy = trained(bench, f"control-{number}", "preference", DPO, snapshot)
        rows = sampled(bench, f"control-samples-{number}", policy, prompts, CONTROL_SAMPLES)
        gains.append(gains_by_prompt(gold_by_prompt((prompt, sample) for prompt, _, sample in rows), base))
    return {"gold_gain": rounded(np.mean(gains)), "t": rounded(np.mean([paired_t(g) for g in gains]), 2)}


def trained(bench: Bench, name: str, stage: str, config: dict[str, Any], snapshot: Input) -> Input:
    return Input(**bench.stage(name, stage, config, snapshot=snapshot, parent=bench.model)["checkpoint"])


def sampled(
    bench: Bench, name: str, policy: Input, prompts: Path, samples: int
) -> list[tuple[Any, str, Sample]]:
    """(prompt id, prompt, sample), the samples of a prompt one after another."""
    config = {"prompts": str(prompts), "samples": samples, "max_new_tokens": NEW_TOKENS, "batch_size": BATCH}
    bench.stage(name, "generate", config, policy=policy)
    texts = {row["id"]: row["messages"][0]["content"] for row in read_jsonl(prompts)}
    rows = read_jsonl(bench.work / name / "completions.jsonl")
    return [(row["id"], texts[row["id"]], sample_of(row)) for row in rows]


def sample_of(row: dict[str, Any]) -> Sample:
    return Sample(row["text"])


def neighbours(rows: list[tuple[Any, str, Sample]]) -> list[tuple[str, Sample, Sample]]:
    """Samples of one prompt two by two, each in one comparison."""
    return [(a[1], a[2], b[2]) for a, b in zip(rows[::2], rows[1::2], strict=True)]


def write_prompts(path: Path, topics: Sequence[str]) -> Path:
    rows = [{"id": topic, "messages": [{"role": "user", "content": topic}]} for topic in topics]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def write_snapshot(directory: Path, train: Iterable[Labeled], test: Iterable[Labeled]) -> Input:
    """The labeled pairs as the frozen snapshot that every training stage reads."""
    directory.mkdir()
    for name, rows in (("pairs-train", train), ("pairs-test", test), ("judgments", ())):
        lines = [json.dumps(as_pair(row, number)) + "\n" for number, row in enumerate(rows)]
        (directory / f"{name}.jsonl").write_text("".join(lines))
    return Input(str(directory), write_manifest(directory, kind="snapshot"))


def as_pair(row: Labeled, number: int) -> dict[str, Any]:
    """A row of a pairs file; its comparison is the row's number, by which the gold order is found again."""
    return {
        "prompt": [{"role": "user", "content": row.prompt}],
        "chosen": [{"role": "assistant", "content": row.chosen.text}],
        "rejected": [{"role": "assistant", "content": row.rejected.text}],
        "margin": 0.0,
        "group": row.prompt,
        "comparison": number,
    }


def gold_by_prompt(rows: Iterable[tuple[Any, Sample]]) -> dict[Any, list[float]]:
    found: dict[Any, list[float]] = {}
    for prompt, sample in rows:
        found.setdefault(prompt, []).append(gold_score(sample))
    return found


def gains_by_prompt(ours: dict[Any, list[float]], base: dict[Any, list[float]]) -> list[float]:
    """Mean gold of a prompt's samples less the base's, a prompt each."""
    return [float(np.mean(ours[key]) - np.mean(base[key])) for key in base]


def metric(result: dict[str, Any], key: str) -> float:
    return next(entry["value"] for entry in result["metrics"] if entry["key"] == key)


def read_jsonl(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().split("\n") if line]  # texts may hold U+2028


def rounded(value: float, digits: int = 3) -> float:
    return round(float(value), digits)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
