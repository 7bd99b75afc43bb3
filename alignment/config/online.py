"""What the stages that learn from a policy's own samples share, and their configs."""

from __future__ import annotations

import re
from dataclasses import dataclass, field, replace
from typing import Any

from alignment.config.guards import guards
from alignment.config.job import build, require
from alignment.config.server import server
from alignment.config.training import PRECISIONS, Optimization, lora, optimization

RULES = {"contains", "matches", "format", "length"}
ONLINE = {"learning_rate": 1e-5, "schedule": "constant", "adam_epsilon": 1e-5, "checkpoint_every": 10}
LOSSES = {"grpo", "dapo", "dr_grpo", "gspo", "rloo"}


def nested(kind: type, raw: Any) -> Any:
    return raw if isinstance(raw, kind) else build(kind, raw or {})


@dataclass(frozen=True)
class Sampling:
    """How completions are sampled; nested under "sampling". top_p is always 1: a cut tail has no log-probability."""

    prompts: int = 8  # a rollout
    completions: int = 8  # a prompt
    max_new_tokens: int = 64
    temperature: float = 1.0  # divides the logits of policy, reference and sampler alike
    tries: int = 1  # above 1, prompts whose completions all earn the same are replaced, this many times at most
    learn_unfinished: bool = True  # also from completions that did not end; DAPO's overlong filtering leaves them out
    passes: int = 1  # times that the completions of a rollout are learnt from
    batch_size: int = 64  # completions in the sampler at a time; changes nothing but memory and speed
    server: Any = None  # {"url": ..., "directory": ...}: vLLM samples, and gets the new weights; null: the trainer

    def __post_init__(self) -> None:
        object.__setattr__(self, "server", server(self.server))
        require(self.prompts >= 1, "prompts", self.prompts, "at least 1 prompt a rollout")
        require(self.completions >= 1, "completions", self.completions, "at least 1 completion a prompt")
        require(self.max_new_tokens >= 1, "max_new_tokens", self.max_new_tokens, "at least 1")
        require(self.temperature > 0, "temperature", self.temperature, "above 0: greedy answers explore nothing")
        require(self.tries >= 1, "tries", self.tries, "at least 1")
        require(self.passes >= 1, "passes", self.passes, "at least 1")
        require(self.batch_size >= 1, "batch_size", self.batch_size, "at least 1 completion at a time")


@dataclass(frozen=True)
class RewardTerm:
    """One source of reward: a reward model among the job's inputs, or a rule that ships with this package."""

    kind: str = "model"  # model | contains | matches | format | length
    weight: float = 1.0
    input: str = "reward"  # of a model: the job's input that holds it
    head: str = "reward"  # of a model: which of its heads, such as a criterion's key or cost
    aggregate: str = "mean"  # of an ensemble: mean | min (its worst) | penalised (less its variance times penalty)
    penalty: float = 0.0
    normalize: bool = False  # of a model: in standard deviations from the mean, by what its card stores
    pattern: str = ""  # contains: a phrase; matches, format: a regular expression to be found, or to fit as a whole
    words: int = 0  # length: the number of words that earns most

    def __post_init__(self) -> None:
        require(self.kind in {"model", *RULES}, "kind", self.kind, f"model or one of {', '.join(sorted(RULES))}")
        known = {"mean", "min", "penalised"}
        require(self.aggregate in known, "aggregate", self.aggregate, "mean, min or penalised")
        require(self.penalty >= 0, "penalty", self.penalty, "0 or more")
        if self.kind in {"contains", "matches", "format"}:
            require(bool(self.pattern), "pattern", self.pattern, f"say what {self.kind} looks for")
        if self.kind in {"matches", "format"}:
            require(is_expression(self.pattern), "pattern", self.pattern, "it is no regular expression")
        if self.kind == "length":
            require(self.words >= 1, "words", self.words, "at least 1 word")


def is_expression(pattern: str) -> bool:
    try:
        re.compile(pattern)
    except re.error:
        return False
    return True


@dataclass(frozen=True)
class Rewarding:
    """What a completion earns; nested under "reward"."""

    terms: list[Any] = field(default_factory=lambda: [RewardTerm()])
    missing_end_penalty: float = 0.0  # taken from a completion that did not end within max_new_tokens
    clip: float = 0.0  # bound of a completion's reward either way; 0: none
    normalize: bool = False  # every model's term
    max_length: int = 512  # tokens of prompt and completion that a reward model reads

    def __post_init__(self) -> None:
        require(len(self.terms) >= 1, "terms", self.terms, "there is no source of reward; name at least one")
        require(self.missing_end_penalty >= 0, "missing_end_penalty", self.missing_end_penalty, "0 or more")
        require(self.clip >= 0, "clip", self.clip, "a positive bound, or 0 for none")
        terms = [nested(RewardTerm, term) for term in self.terms]
        terms = [replace(term, normalize=term.normalize or self.normalize) for term in terms]
        object.__setattr__(self, "terms", terms)


@dataclass(frozen=True)
class KL:
    """How the policy is held near its reference, the parent; nested under "kl"."""

    beta: float = 0.04  # weight; with a target, where it starts
    place: str = "loss"  # loss: k3 a token | reward: k1, summed over the completion
    corrected: bool = True  # in the loss: k3 times the ratio, whose gradient is that of the KL itself; false: k3 alone
    target_nats: float = 0.0  # steer beta so that a completion's KL comes to this; 0: beta stays
    horizon: int = 10_000  # completions in which beta may change e-fold

    def __post_init__(self) -> None:
        require(self.beta >= 0, "beta", self.beta, "0 or more")
        require(self.place in {"loss", "reward"}, "place", self.place, "loss or reward")
        require(self.target_nats >= 0, "target_nats", self.target_nats, "0 or more nats a completion")
        require(self.horizon >= 1, "horizon", self.horizon, "at least 1 completion")
        steered = self.target_nats == 0 or self.beta > 0
        require(steered, "beta", self.beta, "above 0 where target_nats steers it: 0 times anything stays 0")


@dataclass(frozen=True)
class Clip:
    """How far one rollout may move the policy; nested under "clip"."""

    low: float = 0.0  # how far a ratio may fall below 1; 0: as in the paper of the loss
    high: float = 0.0  # and rise above it
    dual: float = 0.0  # a bad token costs at most this many times its advantage, 3 is usual; 0: no bound

    def __post_init__(self) -> None:
        require(self.low >= 0, "low", self.low, "0 or more")
        require(self.high >= 0, "high", self.high, "0 or more")
        require(self.dual == 0 or self.dual > 1, "dual", self.dual, "above 1, or 0 for no bound")


@dataclass(frozen=True)
class OnlineConfig:
    """What the stages have in common that learn by policy gradients from a policy's own samples.

    batch_size counts completions, and is a whole rollout where the job does not say: then every step is on-policy.
    """

    prompts: str = ""  # JSONL: {"id": ..., "messages": [...]}; empty: the snapshot's training prompts
    held_out_prompts: int = 32  # at most so many, and a tenth, are set aside to choose the best weights; 0: none
    show: int = 0  # prompts that are answered as the policy changes, in samples.jsonl
    sampling: Any = None
    reward: Any = None
    kl: Any = None
    clip: Any = None
    guards: Any = None
    lora: Any = None  # an object trains adapters instead of all weights, of a value model beside its head
    precision: str = "fp32"  # fp32 | bf16 (fp32 weights and sampler, bf16 products in the updates) | auto
    optimization: Any = None

    def __post_init__(self) -> None:
        for name, kind in (("sampling", Sampling), ("reward", Rewarding), ("kl", KL), ("clip", Clip)):
            object.__setattr__(self, name, nested(kind, getattr(self, name)))
        object.__setattr__(self, "guards", guards(self.guards))
        object.__setattr__(self, "lora", lora(self.lora))
        require(self.precision in PRECISIONS, "precision", self.precision, "fp32, bf16 or auto")
        if self.lora:
            remedy = "0 where a policy learns from its own samples: else it is not the policy that sampled"
            require(self.lora.dropout == 0, "lora.dropout", self.lora.dropout, remedy)
        require(self.held_out_prompts >= 0, "held_out_prompts", self.held_out_prompts, "0 or more")
        require(self.show >= 0, "show", self.show, "a number of prompts, or 0 for none")
        object.__setattr__(self, "optimization", self._plan())

    def _plan(self) -> Optimization:
        rows, plan = self.sampling.prompts * self.sampling.completions, self.optimization
        if not isinstance(plan, Optimization):
            plan = optimization({**ONLINE, "batch_size": rows, **(plan or {})})
        remedy = f"must divide a rollout of {rows} completions"
        require(rows % plan.batch_size == 0, "batch_size", plan.batch_size, remedy)
        return plan


@dataclass(frozen=True)
class GRPOConfig(OnlineConfig):
    """Policy gradients with advantages from groups of completions of one prompt. Inputs: parent; reward, snapshot."""

    loss: str = "grpo"  # grpo | dapo | dr_grpo | gspo | rloo

    def __post_init__(self) -> None:
        require(self.loss in LOSSES, "loss", self.loss, f"one of {', '.join(sorted(LOSSES))}")
        super().__post_init__()
        completions = self.sampling.completions
        require(completions >= 2, "completions", completions, "at least 2: a group is its own baseline")


@dataclass(frozen=True)
class Cost:
    """What answers may cost on average, and how its price is found; nested under "cost"."""

    terms: list[Any] = field(default_factory=lambda: [RewardTerm(input="cost", head="cost")])  # as those of the reward
    limit: float = 0.0  # of the mean cost; 0 is the boundary of a cost model
    start: float = 1.0  # the multiplier before the first rollout
    rate: float = 0.1  # step of its logarithm a rollout, for a cost of 1 over the limit
    most: float = 100.0  # bound of the multiplier

    def __post_init__(self) -> None:
        require(len(self.terms) >= 1, "cost.terms", self.terms, "there is no source of cost; name at least one")
        require(0 < self.start <= self.most, "cost.start", self.start, f"above 0, at most {self.most:g}")
        require(self.rate > 0, "cost.rate", self.rate, "a positive number")
        object.__setattr__(self, "terms", [nested(RewardTerm, term) for term in self.terms])


@dataclass(frozen=True)
class SafeConfig(GRPOConfig):
    """GRPO under a limit on the mean cost. Inputs: parent; reward, cost and snapshot as the config asks for them."""

    loss: str = "dr_grpo"  # without division by a group's spread, a multiplier keeps its meaning
    cost: Any = None

    def __post_init__(self) -> None:
        super().__post_init__()
        object.__setattr__(self, "cost", nested(Cost, self.cost))
