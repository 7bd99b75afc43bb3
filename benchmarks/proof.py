"""The proof that learning works: every method raises a gold preference that no stage sees, on prompts never seen.

`python3 manage.py bench proof` makes a tiny language model from the demo's arguments (pretrain, sft), labels pairs of
its answers by `benchmarks._gold` with 20 % of the labels turned around, trains a reward model on them, and then
best-of-n, DPO, PPO, GRPO and safe-GRPO, all by the real stages (`python -m alignment ...`), two at a time with a thread
each. The control repeats DPO on shuffled labels; a run without KL shows where optimising the reward model stops paying.
Prints one JSON line; what is being done goes to stderr.
"""

from __future__ import annotations

import argparse
import json
import sys
import threading
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import numpy as np

from benchmarks._proof_figures import figures
from benchmarks._proof_files import read_topics
from benchmarks._proof_plot import draw, require_matplotlib
from benchmarks._proof_recipe import FULL, TOY, Size
from benchmarks._proof_seed import Found, Splits, run_seed
from benchmarks._stages import DEMO, Bench, cpu_seconds, side_by_side, work_folder

SEEDS = (0, 1, 2)
AT_A_TIME = 2  # stages, of one thread each


def main(argv: Sequence[str] = ()) -> int:
    """Run the proof and print its figures as one JSON line. Exit code 0 however they turn out."""
    given = _arguments(argv)
    if given.plot:
        require_matplotlib()
    size, started = TOY if given.toy else FULL, time.monotonic()
    splits = split_topics(read_topics(given.topics), size, development=given.development)
    seeds = given.seeds[:1] if given.quick else given.seeds
    with work_folder(given.work) as work:
        found = run_seeds(work, seeds, size, splits)
        spent = round(cpu_seconds(work / str(seed) for seed in seeds))
    if given.plot:
        draw(given.plot, found)
    run = {"seeds": list(seeds), "wall_seconds": round(time.monotonic() - started), "cpu_seconds": spent}
    print(json.dumps({**run, **figures(found, splits.measured, size.bootstrap)}))
    return 0


def _arguments(argv: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="bench proof", description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="the first seed alone")
    parser.add_argument("--seeds", type=int, nargs="+", default=SEEDS)
    parser.add_argument("--plot", default="", help="PNG of gold against the root of the KL")
    parser.add_argument("--topics", default=str(DEMO / "topics.txt"), help="prompts, one a line")
    parser.add_argument("--development", action="store_true", help="measure on the prompts the recipe was chosen on")
    parser.add_argument("--work", default=None, help="folder that keeps all files, to go on from")
    parser.add_argument("--toy", action="store_true", help="a few steps of everything: it runs, no more")
    return parser.parse_args(list(argv))


def split_topics(topics: Sequence[str], size: Size, *, development: bool) -> Splits:
    """Held-out and development prompts are the same for every seed; the others are trained on."""
    order = [topics[i] for i in np.random.default_rng(0).permutation(len(topics))]
    held_out, rest = order[: size.held_out], order[size.held_out :]
    chosen_on, training = rest[: size.development], rest[size.development :]
    return Splits(training, chosen_on if development else held_out)


def run_seeds(work: Path, seeds: Sequence[int], size: Size, splits: Splits) -> list[Found]:
    slots = threading.Semaphore(AT_A_TIME)
    benches = {seed: Bench(work / str(seed), seed, slots) for seed in seeds}
    tasks = {seed: partial(run_seed, bench, size, splits, unheld=seed == seeds[0]) for seed, bench in benches.items()}
    return list(side_by_side(tasks).values())


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
