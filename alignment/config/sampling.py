"""Stages that sample a policy."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from alignment.config.guards import guards
from alignment.config.job import require
from alignment.config.online import ONLINE, Rewarding, Sampling, nested
from alignment.config.preferences import Terms, check_pair_loss, require_terms
from alignment.config.server import require_own_sampler
from alignment.config.training import PRECISIONS, Optimization, lora, optimization

ONLINE_LOSSES = ("sigmoid", "robust", "hinge", "ipo")  # those that measure against the reference
SELECTIONS = ("best", "threshold", "top_share")


@dataclass(frozen=True)
class GenerateConfig:
    """Sample completions of one policy. Writes completions.jsonl, one row a sample."""

    prompts: str = ""  # JSONL: {"id": ..., "messages": [...]}
    samples: int = 1  # completions a prompt
    max_new_tokens: int = 128
    temperature: float = 1.0  # 0 is greedy
    top_p: float = 1.0
    batch_size: int = 32

    def __post_init__(self) -> None:
        require(bool(self.prompts), "prompts", self.prompts, "name a JSONL file of prompts")
        require(self.samples >= 1, "samples", self.samples, "at least 1")
        require(self.temperature >= 0, "temperature", self.temperature, "0 (greedy) or more")
        require(0 < self.top_p <= 1, "top_p", self.top_p, "above 0, at most 1")
        require(self.max_new_tokens >= 1, "max_new_tokens", self.max_new_tokens, "at least 1")
        require(self.batch_size >= 1, "batch_size", self.batch_size, "at least 1 completion at a time")


@dataclass(frozen=True)
class BestOfNConfig:
    """Sample n completions a prompt, keep the best by reward. Writes rows.jsonl, which sft reads. Input: policy."""

    prompts: str = ""  # JSONL: {"id": ..., "messages": [...]}; empty: the training prompts of the input snapshot
    max_prompts: int = 0  # 0: all of them
    select: str = "best"  # of each prompt | threshold: all that earn so much | top_share: the best of all prompts'
    threshold: float = 0.0  # in the reward's unit
    top_share: float = 0.1  # of all completions
    bootstrap: int = 1000  # resamples of the intervals
    sampling: Any = None  # completions is n; prompts is how many are sampled before the next rows are written
    reward: Any = None

    def __post_init__(self) -> None:
        require(self.max_prompts >= 0, "max_prompts", self.max_prompts, "a number of prompts, or 0 for all")
        require(self.select in SELECTIONS, "select", self.select, f"one of {', '.join(SELECTIONS)}")
        require(0 < self.top_share <= 1, "top_share", self.top_share, "above 0, at most 1")
        require(self.bootstrap >= 100, "bootstrap", self.bootstrap, "at least 100 resamples")
        object.__setattr__(self, "sampling", nested(Sampling, self.sampling))
        require_own_sampler(self.sampling)
        object.__setattr__(self, "reward", nested(Rewarding, self.reward))


@dataclass(frozen=True)
class OnlineDPOConfig:
    """DPO on pairs that the policy has just sampled and the reward ordered. Inputs: parent; reward, snapshot."""

    loss: str = "sigmoid"  # sigmoid | robust | hinge | ipo
    beta: float = 0.1
    label_smoothing: float = 0.0  # share of the reward's orders taken to be wrong
    terms: Any = None
    prompts: str = ""  # JSONL: {"id": ..., "messages": [...]}; empty: the snapshot's training prompts
    held_out_prompts: int = 32  # at most so many, and a tenth, are set aside to choose the best weights; 0: none
    show: int = 0  # prompts that are answered as the policy changes, in samples.jsonl
    sampling: Any = None  # completions a prompt: the best and the worst of them are the pair
    reward: Any = None
    guards: Any = None
    precision: str = "fp32"  # of the updates; samples are always fp32
    lora: Any = None
    optimization: Any = None

    def __post_init__(self) -> None:
        check_pair_loss(self, ONLINE_LOSSES)
        require(self.held_out_prompts >= 0, "held_out_prompts", self.held_out_prompts, "0 or more")
        require(self.show >= 0, "show", self.show, "a number of prompts, or 0 for none")
        require(self.precision in PRECISIONS, "precision", self.precision, "fp32, bf16 or auto")
        raw = self.sampling if isinstance(self.sampling, Sampling) else {"completions": 2, **(self.sampling or {})}
        sampling = nested(Sampling, raw)
        require(sampling.completions >= 2, "completions", sampling.completions, "at least 2: a pair needs two")
        require(sampling.passes == 1, "passes", sampling.passes, "1: every step learns from fresh samples")
        require_own_sampler(sampling)
        for name, value in (
            ("sampling", sampling),
            ("terms", nested(Terms, self.terms)),
            ("reward", nested(Rewarding, self.reward)),
            ("guards", guards(self.guards)),
            ("lora", lora(self.lora)),
            ("optimization", online_plan(self.optimization, sampling.prompts)),
        ):
            object.__setattr__(self, name, value)
        require_terms(self.loss, self.terms)
        file = self.terms.weights_file
        require(not file, "weights_file", file, "it weighs comparisons of a snapshot, and here there are none")
        rule = self.terms.safe_side_wins
        require(not rule, "safe_side_wins", rule, "false: nobody judged these samples; give the reward a cost head")


def online_plan(raw: Any, prompts: int) -> Optimization:
    """The plan of a stage whose step is one pair of each prompt sampled: batch_size counts those."""
    plan = raw if isinstance(raw, Optimization) else optimization({**ONLINE, "batch_size": prompts, **(raw or {})})
    require(plan.batch_size == prompts, "batch_size", plan.batch_size, f"leave it out, or set it to {prompts} prompts")
    return plan
