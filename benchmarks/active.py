"""Whether active selection needs fewer labels than chance: reward ensembles on UKPConvArg1, whole debates held out.

`python3 manage.py bench active --ukp ukpconvarg1_strict.jsonl.gz`; without --ukp the demo's pairs, which ship. The
pool are the pairs of the training debates with their labels hidden; each arm begins with the same random labels and
asks for the same number at a time, picked by `labelapp.rounds.active.select` as a project picks them. The learner is
an ensemble of linear reward heads (Bradley-Terry, L2) on frozen features of a base model, each head on a resample of
the labels: a stand-in for the trainer, cheap enough for hundreds of fits. Prints one JSON line.
"""

from __future__ import annotations

import argparse
import json
import math
import random
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from benchmarks._reward_rows import Row, read_demo, read_ukp
from benchmarks._stages import DEMO
from labelapp.rounds.active import SIGNALS, Answer, Candidate, select

ARMS = ("random", "disagreement", "margin")
SMOOTHED = 3  # steps whose mean accuracy counts, so that one lucky fit does not


class Pool(NamedTuple):
    """Pairs as differences of features, all oriented so that the chosen is first; what the answers look like."""

    differences: np.ndarray  # (n, d)
    sides: np.ndarray  # (n, 2), rows of `features`
    features: np.ndarray  # (texts, d), standardised on the pool
    words: np.ndarray  # (texts,)


def main(argv: Sequence[str] = ()) -> int:
    """Run and print the figures as one JSON line. Exit code 0 however they turn out."""
    given, started = arguments(argv), time.monotonic()
    rows = read_ukp(given.ukp) if given.ukp else read_demo()
    texts, sides = texts_of(rows)
    vectors = embed(texts, given.model, given.max_length)
    words = np.array([len(answer.split()) for _, answer in texts])
    runs = []
    for seed in range(given.seeds):
        pool, test = split(rows, sides, vectors, words, seed, given.held_out)
        runs.append({arm: curve(arm, pool, test, seed, given) for arm in ARMS})
        print(f"seed {seed}: {time.monotonic() - started:.0f} s", file=sys.stderr, flush=True)
    budgets = list(range(given.start, given.labels + 1, given.step))
    found = {arm: beside_random(arm, runs, budgets) for arm in ARMS if arm != "random"}
    spent = {"wall_seconds": round(time.monotonic() - started), "cpu_seconds": round(time.process_time())}
    random_arm = [round(smoothed(run["random"])[-1], 4) for run in runs]
    print(json.dumps({"data": "ukp" if given.ukp else "demo", "pairs": len(rows), "seeds": given.seeds,
                      "labels": given.labels, "control_share": given.control, "random_final": random_arm, **spent,
                      **found, "curves": mean_curves(runs, budgets)}))  # fmt: skip
    return 0


def arguments(argv: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="bench active", description=__doc__.splitlines()[0])
    parser.add_argument("--ukp", type=Path, help="ukpconvarg1_strict.jsonl.gz, in place of the demo's pairs")
    parser.add_argument("--model", default=str(DEMO / "base_model"), help="checkpoint whose features are used")
    parser.add_argument("--max-length", type=int, default=256, help="tokens")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--held-out", type=float, default=0.25, help="share of the debates")
    parser.add_argument("--start", type=int, default=50, help="labels drawn by chance that every arm begins with")
    parser.add_argument("--step", type=int, default=50, help="labels asked for at a time")
    parser.add_argument("--labels", type=int, default=1000, help="labels at the end")
    parser.add_argument("--control", type=float, default=0.2, help="share of an active arm's picks left to chance")
    parser.add_argument("--members", type=int, default=5, help="heads of the ensemble")
    parser.add_argument("--strength", type=float, default=0.003, help="C of the heads' L2 penalty")
    return parser.parse_args(list(argv))


def texts_of(rows: Sequence[Row]) -> tuple[list[tuple[Any, str]], np.ndarray]:
    """Every (prompt, answer) once, and for each row the indices of the chosen and the rejected one: (n, 2)."""
    known: dict[tuple[str, str], int] = {}
    texts: list[tuple[Any, str]] = []
    sides = np.empty((len(rows), 2), int)
    for number, row in enumerate(rows):
        for side, name in enumerate(("chosen", "rejected")):
            key = (json.dumps(row["prompt"]), row[name][0]["content"])
            if key not in known:
                known[key] = len(texts)
                texts.append((row["prompt"], key[1]))
            sides[number, side] = known[key]
    return texts, sides


def embed(texts: Sequence[tuple[Any, str]], model_path: str, max_length: int) -> np.ndarray:
    """(texts, 2 D + 1): the mean and the last of the base model's final hidden states, and the log of the words."""
    import torch

    from alignment.data.text import load_tokenizer
    from alignment.models.checkpoints import load_policy
    from alignment.models.logprob import hidden_states
    from alignment.models.scores import encode_text_row

    model, tokenizer = load_policy(model_path), load_tokenizer(model_path)
    found = []
    with torch.inference_mode():
        for prompt, answer in texts:
            ids = torch.tensor([encode_text_row(tokenizer, prompt, answer, max_length)])
            states = hidden_states(model, ids)[0].float()
            length = torch.tensor([math.log1p(len(answer.split()))])
            found.append(torch.cat([states.mean(0), states[-1], length]).numpy())
    return np.stack(found)


def split(
    rows: Sequence[Row], sides: np.ndarray, vectors: np.ndarray, words: np.ndarray, seed: int, share: float
) -> tuple[Pool, Pool]:
    """Pool and test; whole debates are held out. Features are standardised by the texts of the pool alone."""
    debates = sorted({row["group"] for row in rows})
    held = set(random.Random(seed).sample(debates, round(share * len(debates))))
    is_test = np.array([row["group"] in held for row in rows])
    seen = np.unique(sides[~is_test])
    scale = vectors[seen].std(axis=0)
    features = (vectors - vectors[seen].mean(axis=0)) / np.where(scale > 0, scale, 1)

    def part(mask: np.ndarray) -> Pool:
        own = sides[mask]
        return Pool(features[own[:, 0]] - features[own[:, 1]], own, features, words)

    return part(~is_test), part(is_test)


def curve(arm: str, pool: Pool, test: Pool, seed: int, given: argparse.Namespace) -> list[float]:
    """Held-out accuracy at each number of labels."""
    rng = random.Random(f"{seed} {arm}")
    labelled = random.Random(seed).sample(range(len(pool.sides)), given.start)
    found = []
    while True:
        members = ensemble(pool.differences[labelled], given, seed)
        found.append(float((test.differences @ members.mean(axis=0) > 0).mean()))
        if len(labelled) >= given.labels:
            return found
        left = np.setdiff1d(np.arange(len(pool.sides)), labelled)
        control = 1.0 if arm == "random" else given.control
        values = worth(arm, pool, left, members) if arm in SIGNALS else [0.0] * len(left)
        picks = select(values, given.step, control_share=control, rng=rng)
        labelled = [*labelled, *(int(left[pick.index]) for pick in picks)]


def ensemble(differences: np.ndarray, given: argparse.Namespace, seed: int) -> np.ndarray:
    """(members, d): logistic regressions without intercept, each on a resample of the labels."""
    from sklearn.linear_model import LogisticRegression

    generator = np.random.default_rng(seed)
    members = []
    for _ in range(given.members):
        drawn = generator.integers(len(differences), size=len(differences))
        turned = generator.random(len(drawn)) < 0.5  # which side stands first tells nothing
        turned[:2] = [True, False]
        x = np.where(turned[:, None], -1, 1) * differences[drawn]
        members.append(LogisticRegression(fit_intercept=False, C=given.strength, max_iter=300).fit(x, ~turned).coef_[0])
    return np.stack(members)


def worth(arm: str, pool: Pool, left: np.ndarray, members: np.ndarray) -> list[float]:
    """What the signal says of each pair that is not labelled yet; which side is better is not looked at."""
    scores = pool.features @ members.T
    return [
        SIGNALS[arm](Candidate(*(Answer(tuple(scores[side]), int(pool.words[side])) for side in sorted(pool.sides[i]))))
        for i in left
    ]


def smoothed(accuracies: Sequence[float]) -> list[float]:
    """The mean of the latest SMOOTHED steps."""
    return [float(np.mean(accuracies[max(0, end - SMOOTHED) : end])) for end in range(1, len(accuracies) + 1)]


def beside_random(arm: str, runs: list[dict[str, list[float]]], budgets: list[int]) -> dict[str, Any]:
    """Labels until the random arm's final accuracy, and the difference at the end and over the whole way."""
    needed = [first_reach(smoothed(run[arm]), smoothed(run["random"])[-1], budgets) for run in runs]
    final = [smoothed(run[arm])[-1] - smoothed(run["random"])[-1] for run in runs]
    way = [float(np.mean(np.subtract(run[arm], run["random"]))) for run in runs]
    return {"labels_to_random_final": needed, "final_difference": interval(final), "mean_difference": interval(way)}


def first_reach(accuracies: list[float], wanted: float, budgets: list[int]) -> int | None:
    """The first number of labels at which the accuracy is there; None where it never is."""
    return next((labels for labels, found in zip(budgets, accuracies, strict=True) if found >= wanted), None)


def interval(values: Sequence[float]) -> dict[str, Any]:
    """The mean over seeds with Student's 95 % interval."""
    from scipy.stats import t

    mean, n = float(np.mean(values)), len(values)
    half = float(t.ppf(0.975, n - 1) * np.std(values, ddof=1) / math.sqrt(n)) if n > 1 else None
    by_seed = [round(value, 4) for value in values]
    low, high = (None, None) if half is None else (round(mean - half, 4), round(mean + half, 4))
    return {"value": round(mean, 4), "low": low, "high": high, "by_seed": by_seed}


def mean_curves(runs: list[dict[str, list[float]]], budgets: list[int]) -> dict[str, dict[int, float]]:
    return {
        arm: {labels: round(float(np.mean([run[arm][place] for run in runs])), 4)
              for place, labels in enumerate(budgets) if place % 4 == 3 or place == 0 or place == len(budgets) - 1}
        for arm in ARMS
    }  # fmt: skip


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
