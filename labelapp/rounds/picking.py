"""Of a sampling round's candidates, those that a plan picks: scored by a reward model, with the odds of each kept."""

import json
import random
from pathlib import Path
from typing import Any

from labelapp.labeling.queue import create_comparisons
from labelapp.models import Comparison, Completion, Prompt, Round
from labelapp.rounds import active
from labelapp.rounds.failures import StageFailed

SCORES = "scores.jsonl"
SIDES = ("score_first", "score_second")
ORIGINS = {active.RANDOM: Comparison.Origin.RANDOM, active.ACTIVE: Comparison.Origin.ACTIVE}


def queue_picked(
    round: Round, items: list[tuple[Prompt, list[Completion]]], texts: dict[int, list[str]]
) -> list[Comparison]:
    """Queue the picked candidates, each with its arm and the probability with which it came to be picked.

    texts: of each prompt the two answers, in the order of the scored sides. Raises StageFailed.
    """
    how, made = round.recipe["select"], []
    scores = [read_scores(round, name) for name in SIDES]
    values = [worth(how["signal"], scores, prompt.pk, texts[prompt.pk]) for prompt, _ in items]
    rng = random.Random(f"pick {round.seed}")
    picks = active.select(values, how["count"], control_share=how["control_share"], rng=rng)
    for arm, origin in ORIGINS.items():
        mine = [pick for pick in picks if pick.arm == arm]
        made += create_comparisons(
            project=round.project, items=[items[pick.index] for pick in mine], origin=origin, round=round,
            propensities=[pick.propensity * round.recipe["propensity"] for pick in mine],
        )  # fmt: skip
    return made


def worth(signal: str, scores: list[dict[int, dict[str, Any]]], prompt: int, texts: list[str]) -> float:
    """What the plan's signal says of one candidate. Raises StageFailed where it was not scored."""
    try:
        rows = [found[prompt] for found in scores]
    except KeyError as error:
        raise StageFailed("damaged", f"The answers to prompt {prompt} have no score.") from error
    answers = (
        active.Answer(tuple(row["scores"]), len(text.split()), row.get("drift_nats"))
        for row, text in zip(rows, texts, strict=True)
    )
    return active.SIGNALS[signal](active.Candidate(*answers))


def read_scores(round: Round, name: str) -> dict[int, dict[str, Any]]:
    """What a score stage said, by prompt. Raises StageFailed."""
    path = Path(round.stages.get(name=name).output) / SCORES
    try:
        with path.open() as lines:
            return {int(row["id"]): row for row in map(json.loads, lines)}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise StageFailed("damaged", f"The scores of stage {name} cannot be read from {path}: {error}.") from error
