"""A reward model's checkpoint, ready to be asked: which head, how an ensemble is read, and in which unit."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from alignment.config import COST, REWARD, JobError
from alignment.data.text import Messages, load_tokenizer
from alignment.models.checkpoints import load_reward
from alignment.models.heads import aggregated, columns_of, names_of
from alignment.models.scores import Unit, encode_text_row, scores_of


class Judge(NamedTuple):
    """One head of a checkpoint, ready to be asked."""

    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    columns: list[int]
    mean: Tensor  # (E,) taken off each member's score, then
    sd: Tensor  # (E,) divided by
    aggregate: str
    penalty: float


def load_judge(
    path: str | Path, *, head: str = REWARD, aggregate: str = "mean", penalty: float = 0.0, normalize: bool = False
) -> Judge:
    """A reward model with the head to read. Raises ArtifactError, JobError.

    Args:
        normalize: read scores in standard deviations from their mean over the training completions, both stored in
            card.json. An ensemble read by its worst or its variance is always read so: Bradley-Terry leaves each
            member's zero free, and the least of free zeros means nothing. A cost has its own zero and is never moved.
    """
    model = load_reward(path)
    names = names_of(model)
    columns = columns_of(names, head)
    mean, sd = torch.zeros(len(columns)), torch.ones(len(columns))
    if head != COST and (normalize or (aggregate != "mean" and len(columns) > 1)):
        stored = read_normalisation(path)
        mean, sd = (torch.tensor([stored[names[n]][i] for n in columns]) for i in (0, 1))
    return Judge(model, load_tokenizer(path), columns, mean.to(model.device), sd.to(model.device), aggregate, penalty)


def read_normalisation(path: str | Path) -> dict[str, tuple[float, float]]:
    """Mean and standard deviation of each head's score, from the checkpoint's card. Raises JobError without them."""
    try:
        stored = json.loads((Path(path) / "card.json").read_text())["normalisation"]
        heads = stored.get("heads", {REWARD: stored})
        return {name: (float(said["mean"]), float(said["sd"]) or 1.0) for name, said in heads.items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise JobError(
            f"{path}/card.json holds no mean and deviation of the scores ({error!r}); read the scores as they are, "
            "or train the reward model here"
        ) from error


def member_scores(judge: Judge, units: Sequence[Unit]) -> Tensor:
    """Scores (R, E) of the R texts of the units under each member of the head."""
    scores = scores_of(judge.model, units, judge.tokenizer.pad_token_id)
    return (scores[:, judge.columns] - judge.mean) / judge.sd


def judged(judge: Judge, texts: Sequence[tuple[Messages, str]], max_length: int) -> Tensor:
    """The score (B,) of each (prompt, completion)."""
    rows = [[encode_text_row(judge.tokenizer, prompt, text, max_length)] for prompt, text in texts]
    return aggregated(member_scores(judge, rows), judge.aggregate, judge.penalty)
