"""What a completion earns: reward models, rules that ship with this package, and how the sum of them is shaped."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor

from alignment import devices
from alignment.config import Job
from alignment.config.online import Rewarding, RewardTerm
from alignment.models.heads import aggregated
from alignment.models.scores import encode_text_row
from alignment.sampling.judge import load_judge, member_scores
from alignment.sampling.rollouts import Completion


class Source(NamedTuple):
    """A term of the reward, ready to be asked."""

    name: str
    weight: float
    members: Callable[[Sequence[Completion]], Tensor]  # N completions to (N, E), more than one column from an ensemble
    read: Callable[[Tensor], Tensor]  # (N, E) to (N,)

    def score(self, completions: Sequence[Completion]) -> Tensor:
        return self.read(self.members(completions))


class Rewards(NamedTuple):
    """What N completions earn."""

    total: Tensor  # (N,) what is learnt from
    parts: dict[str, Tensor]  # (N,) of each term, before weight, penalty and bound
    ensembles: dict[str, Tensor]  # (N, E) of each term that is read from an ensemble


def reward_sources(job: Job, terms: Sequence[RewardTerm], *, max_length: int) -> list[Source]:
    """The terms in their order; reward models are loaded here. Raises JobError naming what cannot be asked."""
    return [
        Source(name, term.weight, *(_model(job, term, max_length) if term.kind == "model" else _rule(term)))
        for name, term in zip(_names(terms), terms, strict=True)
    ]


def _names(terms: Sequence[RewardTerm]) -> list[str]:
    """A name of its own for each term's figure: the input or the rule, with a number where one comes twice."""
    plain = [term.input if term.kind == "model" else term.kind for term in terms]
    return [name if plain.count(name) == 1 else f"{name}_{plain[: i + 1].count(name)}" for i, name in enumerate(plain)]


def _model(job: Job, term: RewardTerm, max_length: int) -> tuple[Callable, Callable]:
    how = {"aggregate": term.aggregate, "penalty": term.penalty, "normalize": term.normalize}
    judge = load_judge(job.input_path(term.input), head=term.head, **how)

    def scored(completions: Sequence[Completion]) -> Tensor:
        texts = [(made.prompt.messages, made.sample.text) for made in completions]
        rows = [[encode_text_row(judge.tokenizer, prompt, text, max_length)] for prompt, text in texts]
        return member_scores(judge, rows).cpu()

    def members(completions: Sequence[Completion]) -> Tensor:
        return devices.shared(completions, scored)

    return members, partial(aggregated, aggregate=judge.aggregate, penalty=judge.penalty)


def _rule(term: RewardTerm) -> tuple[Callable, Callable]:
    def members(completions: Sequence[Completion]) -> Tensor:
        return torch.tensor([[rule_score(term, made.sample.text)] for made in completions])

    return members, lambda scores: scores[:, 0]


def rule_score(term: RewardTerm, text: str) -> float:
    """What a rule gives a text, 0 to 1."""
    match term.kind:
        case "contains":
            return contains(text, term.pattern)
        case "matches":
            return matches(text, term.pattern)
        case "format":
            return has_format(text, term.pattern)
        case "length":
            return length_target(text, term.words)
    raise ValueError(f"there is no rule {term.kind!r}")


def contains(text: str, phrase: str) -> float:
    """1 where the phrase occurs in the text, whatever the case of its letters."""
    return float(phrase.casefold() in text.casefold())


def matches(text: str, pattern: str) -> float:
    """1 where the regular expression is found somewhere in the text."""
    return float(re.search(pattern, text) is not None)


def has_format(text: str, pattern: str) -> float:
    """1 where the whole text fits the regular expression, in which a dot also stands for a line's end."""
    return float(re.fullmatch(pattern, text.strip(), re.DOTALL) is not None)


def length_target(text: str, words: int) -> float:
    """1 at exactly so many words, falling evenly to 0 at none and at twice as many."""
    return max(0.0, 1 - abs(len(text.split()) - words) / words)


def rewards_of(completions: Sequence[Completion], sources: Sequence[Source], how: Rewarding) -> Rewards:
    """Weighted sum of the terms, minus the penalty for a missing end, within the bound."""
    members = {source.name: source.members(completions) for source in sources}
    parts = {source.name: source.read(members[source.name]) for source in sources}
    total = sum(source.weight * parts[source.name] for source in sources)
    endless = torch.tensor([not made.sample.finished for made in completions])
    total = total - how.missing_end_penalty * endless
    total = total.clamp(-how.clip, how.clip) if how.clip else total
    return Rewards(total, parts, {name: scores for name, scores in members.items() if scores.shape[1] > 1})


def rows_of_rewards(rewards: Rewards, rows: slice) -> Rewards:
    parts = {name: part[rows] for name, part in rewards.parts.items()}
    return Rewards(rewards.total[rows], parts, {name: scores[rows] for name, scores in rewards.ensembles.items()})


def joined_rewards(several: Sequence[Rewards]) -> Rewards:
    first = several[0]
    return Rewards(
        torch.cat([rewards.total for rewards in several]),
        {name: torch.cat([rewards.parts[name] for rewards in several]) for name in first.parts},
        {name: torch.cat([rewards.ensembles[name] for rewards in several]) for name in first.ensembles},
    )
