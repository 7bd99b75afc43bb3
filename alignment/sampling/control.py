"""What adjusts itself while a policy is trained: the weight of the KL, and the price of a constraint.

Each is a part of a run's state, so that a resumed run goes on with the very same number.
"""

from __future__ import annotations

import math
from typing import Any


class KLController:
    """The weight beta of the KL: fixed, or steered so that the measured KL comes to a target.

    Source: Ziegler et al. 2019, arXiv:1909.08593, section 2.2.
    """

    MOST_ERROR = 0.2

    def __init__(self, beta: float, *, target_nats: float = 0.0, horizon: int = 10_000) -> None:
        """target_nats: KL a completion, 0 for a fixed beta; horizon: completions in which beta may change e-fold."""
        self.beta, self.target_nats, self.horizon = beta, target_nats, horizon

    def update(self, kl_nats: float, completions: int) -> None:
        """Learn the mean KL of this many completions, in nats a completion."""
        if self.target_nats:
            error = min(max(kl_nats / self.target_nats - 1, -self.MOST_ERROR), self.MOST_ERROR)
            self.beta *= 1 + error * completions / self.horizon

    def state_dict(self) -> dict[str, Any]:
        return {"beta": self.beta}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.beta = state["beta"]


class Multiplier:
    """The Lagrange multiplier of a constraint: it rises while the measured cost is over its limit, and falls below.

    It moves on the logarithm, so it stays positive, and within bounds, so that it can always come back.
    Source: Dai et al. 2023, arXiv:2310.12773 (Safe RLHF). There a step is also multiplied by lambda; here it is not,
    because with the factor a lambda above 1 / rate reaches its bound within a few rollouts.
    """

    def __init__(self, *, limit: float, start: float, rate: float, most: float, least: float = 1e-3) -> None:
        """limit: the mean cost that is allowed; rate: step of the logarithm for a cost of 1 over it."""
        self.limit, self.rate = limit, rate
        self.bounds = (math.log(least), math.log(most))
        self.log_value = math.log(start)

    @property
    def value(self) -> float:
        return math.exp(self.log_value)

    def update(self, mean_cost: float) -> None:
        """One step against (mean cost - limit), once a rollout."""
        moved = self.log_value + self.rate * (mean_cost - self.limit)
        self.log_value = min(max(moved, self.bounds[0]), self.bounds[1])

    def state_dict(self) -> dict[str, Any]:
        return {"log_value": self.log_value}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.log_value = state["log_value"]
