"""Proximal policy optimisation: what it takes beside the groups that it shares with the other online stages."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from alignment.config.job import require
from alignment.config.online import Cost, OnlineConfig, nested

USUAL = {  # where these differ from what the other online stages take
    "sampling": {"prompts": 32, "completions": 1, "passes": 4},
    "kl": {"beta": 0.05, "place": "reward"},
    "clip": {"low": 0.2, "high": 0.2},
    "optimization": {"learning_rate": 3e-6, "schedule": "linear"},
}


@dataclass(frozen=True)
class Value:
    """The value model; nested under "value"."""

    source: str = "reward"  # reward: a copy of the reward model, head and all | policy: the parent's body, a head of 0
    coefficient: float = 0.1  # weight of its loss beside the policy's
    clip: float = 0.2  # how far one rollout may move a value, in the reward's unit; 0: no clip

    def __post_init__(self) -> None:
        require(self.source in {"reward", "policy"}, "value.source", self.source, "reward or policy")
        require(self.coefficient > 0, "value.coefficient", self.coefficient, "a positive number, 0.1 is usual")
        require(self.clip >= 0, "value.clip", self.clip, "0 or more, 0.2 is usual")


@dataclass(frozen=True)
class Advantage:
    """How an advantage is estimated; nested under "advantage"."""

    gamma: float = 1.0  # discount a token
    gae_lambda: float = 0.95  # 0 trusts the values, 1 the rewards alone
    whiten_rewards: bool = False  # to variance 1 over the rollout, the mean kept
    bootstrap_unfinished: bool = False  # a completion that met the limit goes on in its value; else it ends there

    def __post_init__(self) -> None:
        require(0 < self.gamma <= 1, "advantage.gamma", self.gamma, "above 0, at most 1")
        require(0 <= self.gae_lambda <= 1, "advantage.gae_lambda", self.gae_lambda, "from 0 to 1")


@dataclass(frozen=True)
class PPOConfig(OnlineConfig):
    """Proximal policy optimisation with a value model. Inputs: parent; reward, snapshot where the config needs them."""

    value: Any = None
    advantage: Any = None

    def __post_init__(self) -> None:
        for name, usual in USUAL.items():
            given = getattr(self, name)
            if given is None or isinstance(given, dict):
                object.__setattr__(self, name, {**usual, **(given or {})})
        super().__post_init__()
        for name, kind in (("value", Value), ("advantage", Advantage)):
            object.__setattr__(self, name, nested(kind, getattr(self, name)))
        require(self.kl.place == "reward", "kl.place", self.kl.place, "reward: each token pays for its own distance")
        rows = self.sampling.prompts * self.sampling.completions
        require(rows >= 2, "sampling.prompts", rows, "at least 2 completions: advantages are whitened over a rollout")
        require(self.sampling.tries == 1, "sampling.tries", self.sampling.tries, "1: there are no groups to try again")
        require(self.clip.low > 0 < self.clip.high, "clip", self.clip, "low and high above 0, 0.2 is usual")


@dataclass(frozen=True)
class SafePPOConfig(PPOConfig):
    """PPO under a limit on the mean cost. Inputs: parent; reward, cost and snapshot as the config asks for them."""

    cost: Any = None

    def __post_init__(self) -> None:
        super().__post_init__()
        object.__setattr__(self, "cost", nested(Cost, self.cost))
