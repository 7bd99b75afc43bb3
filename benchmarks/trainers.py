"""Our trainers beside TRL's on the same work: `python3 manage.py bench trainers` prints one JSON line.

The same random weights, real pairs (`benchmarks/pairs`), batches, optimizer and threads; each run is a process of its
own and the sides take turns, so that a busy machine disturbs all. Figures are medians. `ratio` is TRL's seconds
over ours, `cpu_ratio` the same of CPU seconds, which other work changes less, `rss_ratio` our peak memory
over TRL's, `utilisation` the products that TRL needs for the work, a second of ours, as a share of the measured peak.
All of this is in fp32; `bf16` is our stage with bf16 products beside the same TRL in fp32, its faster setting on a CPU.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from benchmarks._trainers_work import TASKS, Task, peak_gflops, prepare, work_of

SIDES = {"ours": ("benchmarks._trainers_ours", "fp32"), "bf16": ("benchmarks._trainers_ours", "bf16"),
         "trl": ("benchmarks._trainers_trl", "fp32")}  # fmt: skip


def main(argv: Sequence[str] = ()) -> int:
    """Run the tasks and print their figures as one JSON line; how each run went goes to stderr."""
    given = _arguments(argv)
    tasks = [task for task in TASKS if not given.only or task.name in given.only]
    torch.set_num_threads(given.threads)
    found: dict[str, Any] = {"threads": given.threads, "runs": given.runs, "load": round(os.getloadavg()[0], 1)}
    found["peak_gflops"] = round(peak_gflops(), 1)
    with tempfile.TemporaryDirectory(dir=given.work) as folder:
        prepare(Path(folder), tasks)
        for task in tasks:
            runs = {side: [] for side in SIDES}
            for number in range(given.runs):
                for side in SIDES:
                    runs[side].append(run(task, side, Path(folder), number, given.threads))
            found[task.name] = figures(task, Path(folder) / task.size, runs, found["peak_gflops"])
            print(task.name, json.dumps(found[task.name]), file=sys.stderr, flush=True)
    print(json.dumps(found))
    return 0


def _arguments(argv: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="bench trainers", description=__doc__.splitlines()[0])
    parser.add_argument("--quick", dest="runs", action="store_const", const=1, help="one run of each side, not three")
    parser.add_argument("--runs", type=int, help="runs of each side; the medians are printed")
    parser.add_argument("--only", nargs="+", choices=[task.name for task in TASKS], help="these comparisons alone")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--work", default=None, help="folder for the intermediate files, removed at the end")
    parser.set_defaults(runs=3)
    return parser.parse_args(list(argv))


def run(task: Task, side: str, folder: Path, number: int, threads: int) -> dict[str, Any]:
    """One run in a process of its own. Raises RuntimeError with the end of what it said."""
    output = folder / f"{task.name}-{side}-{number}"
    module, precision = SIDES[side]
    words = [task.name, str(folder / task.size), str(output), str(threads), precision]
    environment = {**os.environ, "OMP_NUM_THREADS": str(threads), "HF_HUB_OFFLINE": "1"}
    done = subprocess.run(
        [sys.executable, "-m", module, *words], env=environment, capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise RuntimeError(f"{task.name} by {side} failed:\n{done.stderr[-2000:]}")
    return json.loads(done.stdout.splitlines()[-1])


def figures(task: Task, home: Path, runs: dict[str, list[dict[str, Any]]], peak: float) -> dict[str, Any]:
    """Medians of the runs, and the largest difference of two losses of the same step."""
    work, ours = work_of(task, home), medians(runs["ours"])
    return {
        **beside(task, runs, "ours"),
        "utilisation": round(work.gigaflop / ours["seconds"] / peak, 3),
        "cpu_utilisation": round(work.gigaflop / ours["cpu_seconds"] / peak, 3),
        "samples_per_second": round(work.samples / ours["seconds"], 2),
        "tokens_per_second": round(work.tokens / ours["seconds"]),
        "bf16": beside(task, runs, "bf16"),
    }


def beside(task: Task, runs: dict[str, list[dict[str, Any]]], side: str) -> dict[str, Any]:
    """One of our sides beside TRL. The losses of grpo are not compared: each side learns from its own samples."""
    ours, trl = medians(runs[side]), medians(runs["trl"])
    return {
        "ratio": round(trl["seconds"] / ours["seconds"], 2),
        "cpu_ratio": round(trl["cpu_seconds"] / ours["cpu_seconds"], 2),
        "rss_ratio": round(ours["peak_mib"] / trl["peak_mib"], 2),
        "seconds": [round(at["seconds"], 2) for at in (ours, trl)],
        "cpu_seconds": [round(at["cpu_seconds"], 2) for at in (ours, trl)],
        "peak_mib": [round(at["peak_mib"]) for at in (ours, trl)],
        "loss_difference": None if task.stage == "grpo" else loss_difference(runs[side][0], runs["trl"][0]),
    }


def medians(runs: list[dict[str, Any]]) -> dict[str, float]:
    return {key: statistics.median(run[key] for run in runs) for key in runs[0] if key != "losses"}


def loss_difference(ours: dict[str, Any], trl: dict[str, Any]) -> float:
    """Largest, over the steps: each step starts from what the steps before it have learnt."""
    return float(f"{max(abs(a - b) for a, b in zip(ours['losses'], trl['losses'], strict=True)):.2g}")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
