"""Reward models on people's preferences, cross-validated, beside "longer wins" and TF-IDF, with each mitigation.

`python3 manage.py bench reward_data` trains the demo's base model on the demo's pairs, by debate. `--ukp` and `--hh`
name UKPConvArg1Strict and a file of HH-RLHF instead, which do not ship. Every fold trains by the stage `reward` and is
measured by the stage `evaluate`; the figures pool the held-out pairs, with intervals that resample debates or prompts.
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
from typing import Any

import numpy as np

from alignment.config import Input
from alignment.manifest import MANIFEST, file_sha256
from alignment.measures.baselines import TextPair, correct, log_length_difference
from alignment.measures.figures import Measure, Resampling, flips, mean_of, metric, pearson_of
from benchmarks._reward_rows import Row, folds, read_demo, read_hh, read_ukp, some_of
from benchmarks._stages import DEMO, Bench, cpu_seconds, freeze_pairs, side_by_side, work_folder

PLAIN = "plain"
ARMS: dict[str, dict[str, Any]] = {
    PLAIN: {},
    "length_decorrelation": {"mitigation": {"length_penalty": 0.3}},
    "odin_head": {"mitigation": {"length_head": 1.0}},
    "counterfactual_penalty": {"counterfactual_weight": 10.0},
    "swapped_copies": {"mitigation": {"augment": True}},
    "group_robust": {"mitigation": {"group_rate": 0.05}},
}
BASELINES = ("longer_wins", "tfidf", "tfidf_length")
AT_A_TIME = 2  # stages, of one thread each


def main(argv: Sequence[str] = ()) -> int:
    """Run and print the figures as one JSON line. Exit code 0 however they turn out."""
    given, started = _arguments(argv), time.monotonic()
    data = {"ukp": read_ukp(given.ukp)} if given.ukp else {}
    data |= {"hh_harmless": read_hh(given.hh)} if given.hh else {}
    slots = threading.Semaphore(AT_A_TIME)
    with work_folder(given.work) as work:
        found = {name: cross_validated(Bench(work / name, given.seed, slots), rows, given)
                 for name, rows in (data or {"demo": read_demo()}).items()}  # fmt: skip
        cpu = round(cpu_seconds(work / name for name in found))
    spent = {"wall_seconds": round(time.monotonic() - started), "cpu_seconds": cpu}
    print(json.dumps({"folds": given.folds, "train_pairs": given.train_pairs, **spent, **found}))
    return 0


def _arguments(argv: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="bench reward_data", description=__doc__.splitlines()[0])
    parser.add_argument("--ukp", type=Path, help="ukpconvarg1_strict.jsonl.gz, in place of the demo's pairs")
    parser.add_argument("--hh", type=Path, help="a .jsonl.gz of HH-RLHF, such as harmless-base, likewise")
    parser.add_argument("--model", default=str(DEMO / "base_model"), help="checkpoint to start from")
    parser.add_argument("--folds", type=int, default=4)
    parser.add_argument("--mitigated-folds", type=int, default=1, help="the first so many run each mitigation too")
    parser.add_argument("--arms", nargs="+", choices=ARMS, default=list(ARMS), help="plain always runs")
    parser.add_argument("--train-pairs", type=int, default=1500, help="of a fold, drawn at random; 0: all")
    parser.add_argument("--test-pairs", type=int, default=0, help="of a fold, drawn at random; 0: all")
    parser.add_argument("--max-length", type=int, default=256, help="tokens; a prompt loses its beginning")
    parser.add_argument("--bootstrap", type=int, default=1000)
    parser.add_argument("--work", default=None, help="folder that keeps all files, to go on from")
    parser.add_argument("--seed", type=int, default=0)
    return parser.parse_args(list(argv))


def cross_validated(bench: Bench, rows: list[Row], given: argparse.Namespace) -> dict[str, Any]:
    """The figures of one data set: plain on all folds, the mitigations on the first of them."""
    bench.work.mkdir(exist_ok=True)
    tasks = {}
    for number, (train, test) in enumerate(folds(rows, given.folds)):
        kept = some_of(train, given.train_pairs, given.seed), some_of(test, given.test_pairs, given.seed)
        snapshot = freeze_pairs(bench.work / f"snapshot-{number}", *kept)
        arms = [PLAIN, *(arm for arm in given.arms if arm != PLAIN and number < given.mitigated_folds)]
        tasks |= {(arm, number): partial(run_arm, bench, arm, number, snapshot, given) for arm in arms}
    items = side_by_side(tasks)
    how = Resampling(given.bootstrap, given.seed)
    plain = {number: found for (arm, number), found in items.items() if arm == PLAIN}
    mitigated = {arm: [found for (name, _), found in items.items() if name == arm] for arm in given.arms}
    mitigated.pop(PLAIN, None)
    first = [plain[number] for number in range(min(given.mitigated_folds, given.folds))]
    return {
        "pairs": sum(len(pairs_of(found)) for found in plain.values()),
        PLAIN: {**arm_figures(list(plain.values()), how), "over": over_baselines(list(plain.values()), how)},
        "mitigated": {"folds": len(first), PLAIN: arm_figures(first, how),
                      **{arm: {**arm_figures(found, how), "change_of_accuracy": change_of_accuracy(found, first, how)}
                         for arm, found in mitigated.items() if found}},
    }  # fmt: skip


def run_arm(bench: Bench, arm: str, number: int, snapshot: Input, given: argparse.Namespace) -> list[Row]:
    """Train one arm on one fold; returns items.jsonl, each row with the fold."""
    model = Input(given.model, file_sha256(Path(given.model) / MANIFEST))
    plan = {"learning_rate": 3e-4, "batch_size": 16, "epochs": 1}
    config = {"margin": "none", "max_length": given.max_length, "optimization": plan, **ARMS[arm]}
    reward = bench.train(f"{arm}-{number}", "reward", config, snapshot=snapshot, parent=model)
    measured = {"max_length": given.max_length, "bootstrap": 100}
    bench.stage(f"{arm}-{number}-evaluation", "evaluate", measured, snapshot=snapshot, reward=reward)
    return [{**row, "fold": number} for row in bench.rows(f"{arm}-{number}-evaluation", "items.jsonl")]


def pairs_of(items: Sequence[Row]) -> list[Row]:
    return [row for row in items if row["kind"] == "pair"]


def joined(found: Sequence[Sequence[Row]]) -> list[Row]:
    return [row for items in found for row in pairs_of(items)]


def margins_of(rows: Sequence[Row]) -> np.ndarray:
    """(n,) margins of the reward model, in root mean squares of their fold: folds are models of their own scale."""
    margins = np.asarray([row["chosen_score"] - row["rejected_score"] for row in rows], dtype=float)
    fold = np.asarray([row["fold"] for row in rows])
    for number in np.unique(fold):
        margins[fold == number] /= np.sqrt(np.mean(margins[fold == number] ** 2)) or 1.0
    return margins


def arm_figures(found: Sequence[Sequence[Row]], how: Resampling) -> dict[str, Any]:
    """Accuracy, accuracy where the chosen answer is shorter, correlation with length, verdicts that swaps turn."""
    rows, swapped = joined(found), [row for items in found for row in items if row["kind"] == "natural"]
    margins, groups = margins_of(rows), [row["group"] for row in rows]
    lengths = log_length_difference([TextPair(row["chosen"], row["rejected"]) for row in rows])
    right, shorter = correct(margins), lengths < 0
    turned = flips(*(np.asarray([row[f"{side}first_score"] - row[f"{side}second_score"] for row in swapped])
                     for side in ("", "swapped_")))  # fmt: skip
    of_shorter = [group for group, kept in zip(groups, shorter, strict=True) if kept]
    measures = [
        Measure("accuracy", "share", mean_of(right), groups),
        Measure("accuracy_chosen_shorter", "share", mean_of(right[shorter]), of_shorter),
        Measure("length_correlation", "pearson", pearson_of(margins, lengths), groups),
        Measure("flip_rate", "share", mean_of(turned), [row["group"] for row in swapped]),
    ]
    return {measure.key: figure(measure, how) for measure in measures}


def over_baselines(found: Sequence[Sequence[Row]], how: Resampling) -> dict[str, Any]:
    """Each baseline's accuracy, and the reward model's less it, paired; whether the model beats them all."""
    rows = joined(found)
    groups, ours = [row["group"] for row in rows], correct(margins_of(rows))
    beside = {}
    for name in BASELINES:
        theirs = correct(np.asarray([row[f"{name}_margin"] for row in rows]))
        beside[name] = {"accuracy": figure(Measure(name, "share", mean_of(theirs), groups), how),
                        "difference": figure(Measure(name, "share", mean_of(ours - theirs), groups), how)}  # fmt: skip
    return {**beside, "beats_all": all((one["difference"]["low"] or 0) > 0 for one in beside.values())}


def change_of_accuracy(
    after: Sequence[Sequence[Row]], before: Sequence[Sequence[Row]], how: Resampling
) -> dict[str, Any]:
    """Mitigated less plain, on the same pairs in the same order."""
    moved = correct(margins_of(joined(after))) - correct(margins_of(joined(before)))
    return figure(Measure("change", "share", mean_of(moved), [row["group"] for row in joined(before)]), how)


def figure(measure: Measure, how: Resampling) -> dict[str, Any]:
    found = metric(measure, how)
    kept = {key: None if found[key] is None else round(found[key], 4) for key in ("value", "low", "high")}
    return {**kept, "n": found["n"], "groups": found["clusters"]}


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
