"""Two ranks of one thread beside one process of two, on SFT: `python3 manage.py bench devices` prints one JSON line.

The same random weights, rows and batches as in `bench trainers`; the two take turns, so that a busy machine disturbs
both. Tokens a second are medians over the steps behind the first two, `largest_mib` is the peak memory of the largest
process.
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

from alignment.config import Input, Job
from alignment.data.rows import read_jsonl
from benchmarks._trainers_work import BATCH, PLAN, SHAPES, write_model, write_rows

WARM = 2  # first steps, not counted
MEASURED = "import resource, subprocess, sys; code = subprocess.call(sys.argv[1:]); " \
    "print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss // 1024); sys.exit(code)"  # fmt: skip


def main(argv: Sequence[str] = ()) -> int:
    """Run both in turn and print their figures."""
    parser = argparse.ArgumentParser(prog="bench devices", description=__doc__.splitlines()[0])
    parser.add_argument("--size", choices=SHAPES, default="4m", help="of the model")
    parser.add_argument("--runs", type=int, default=3, help="runs of each")
    parser.add_argument("--steps", type=int, default=8, help="optimizer steps of a run")
    given = parser.parse_args(list(argv))
    runs: dict[int, list[dict[str, Any]]] = {1: [], 2: []}
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder)
        write_model(home / "policy", given.size)
        write_rows(home, BATCH * given.steps)
        for number in range(given.runs):
            for devices in runs:
                runs[devices].append(run(home, devices, number))
                print(devices, json.dumps(runs[devices][-1]), file=sys.stderr, flush=True)
    print(json.dumps({"size": given.size, "load": round(os.getloadavg()[0], 1), **figures(runs)}))
    return 0


def run(home: Path, devices: int, number: int) -> dict[str, Any]:
    """One run in processes of its own. Raises RuntimeError with the end of what it said."""
    output = home / f"{devices}-{number}"
    inputs = {"parent": Input(str(home / "policy"))}
    config = {"rows": str(home / "dialogues.jsonl"), "max_length": 512, "optimization": PLAN}
    Job("sft", inputs, config, str(output), threads=2, devices=devices).dump(home / "job.json")
    words = [sys.executable, "-m", "alignment", "sft", str(home / "job.json")]
    environment = {**os.environ, "OMP_NUM_THREADS": "2", "OMP_WAIT_POLICY": "PASSIVE", "HF_HUB_OFFLINE": "1"}
    said = subprocess.run(
        [sys.executable, "-c", MEASURED, *words], env=environment, capture_output=True, text=True, check=False
    )
    if said.returncode:
        raise RuntimeError(f"{devices} devices failed:\n{said.stderr[-2000:]}")
    steps = [row for _, row in read_jsonl(str(output / "metrics.jsonl"), "metrics")]
    return {
        "tokens_per_second": [round(step["tokens_per_second"], 1) for step in steps[WARM:]],
        "losses": [step["loss_nats"] for step in steps],
        "largest_mib": int(said.stdout.split()[-1]),
    }


def figures(runs: dict[int, list[dict[str, Any]]]) -> dict[str, Any]:
    """Medians by the number of devices, their ratio, and the largest difference of two losses of the same step."""
    found: dict[str, Any] = {}
    for devices, made in runs.items():
        speeds = [speed for each in made for speed in each["tokens_per_second"]]
        found[f"devices_{devices}"] = {
            "tokens_per_second": round(statistics.median(speeds)),
            "fastest_step": round(max(speeds)),
            "largest_mib": statistics.median(each["largest_mib"] for each in made),
        }
    one, two = (found[f"devices_{devices}"]["tokens_per_second"] for devices in (1, 2))
    pairs = zip(runs[1][0]["losses"], runs[2][0]["losses"], strict=True)
    return {**found, "ratio": round(two / one, 2), "loss_difference": max(abs(a - b) for a, b in pairs)}


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
