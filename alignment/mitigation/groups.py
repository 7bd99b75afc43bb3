"""Weights by group: fixed ones that bring the groups to wanted shares, and those that follow the worst-off group."""

from __future__ import annotations

import json
from collections.abc import Hashable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from alignment.config import JobError
from alignment.losses.mitigation import group_means, group_row_weights, raised_group_weights

LIMIT = 5.0  # no row counts more than so many times, or less than 1 / LIMIT times
MEMORY = 0.9  # of a group's running loss: a batch may hold few of its rows, or none


def read_groups(path: str) -> dict[str, str]:
    """The groups that a JSON file gives comparisons by name; none without a path. Raises JobError."""
    if not path:
        return {}
    try:
        groups = json.loads(Path(path).read_text())
    except (OSError, ValueError) as error:
        raise JobError(f"cannot read the groups in {path}: {error}") from error
    if not isinstance(groups, dict):
        raise JobError(f'{path} must hold one JSON object: {{"comparison": "group"}}')
    return {name: str(group) for name, group in groups.items()}


def balanced_weights(
    groups: Sequence[Hashable],
    wanted: Mapping[Hashable, float] | None = None,
    rows: Sequence[float] | None = None,
) -> list[float]:
    """The weight of each row that brings its group from its own share to the wanted one; equal shares unless named.

    Clipped to 1/5 to 5: a group of two rows cannot speak for a fifth of the world.

    Args:
        rows: how much each row counts already, 1 unless given: the pairs of a ranking are one judgment together.

    Source: Kamiran & Calders 2012, "Data preprocessing techniques for classification without discrimination".
    """
    sizes: dict[Hashable, float] = {}
    for group, counted in zip(groups, rows or [1.0] * len(groups), strict=True):
        sizes[group] = sizes.get(group, 0.0) + counted
    shares, whole = wanted or {group: 1 / len(sizes) for group in sizes}, sum(sizes.values())
    weight = {g: min(LIMIT, max(1 / LIMIT, shares[g] * whole / size)) for g, size in sizes.items()}
    return [weight[group] for group in groups]


def effective_count(weights: Sequence[float]) -> float:
    """How many equally weighted rows are worth as much as these: (sum w)^2 / sum w^2."""
    return sum(weights) ** 2 / sum(w * w for w in weights) if weights else 0.0


class GroupWeights:
    """Group-robust weights during a run: a part of its state.

    Args:
        groups: of every training row. Their sizes do not change.
        rate, adjustment, floor: as in `raised_group_weights`.
    """

    def __init__(
        self, groups: Sequence[Hashable], *, rate: float, adjustment: float = 0.0, floor: float = 0.1
    ) -> None:
        self.names = sorted(set(groups), key=str)
        number = {name: i for i, name in enumerate(self.names)}
        self.numbers = torch.tensor([number[group] for group in groups])
        self.sizes = torch.bincount(self.numbers).double()
        self.how = {"rate": rate, "adjustment": adjustment, "floor": floor}
        self.weights = torch.full((len(self.names),), 1 / len(self.names), dtype=torch.float64)
        self.losses = torch.full_like(self.weights, torch.nan)

    def row_weights(self, rows: Sequence[int], weights: Tensor) -> Tensor:
        """Weights (B,) of a batch's rows: their losses' weighted sum is the groups' means under the groups' weights.

        Args:
            weights: how much the rows count within their groups, shape (B,).
        """
        found = group_row_weights(self.weights, self.numbers[list(rows)], weights.to("cpu", torch.float64))
        return found.to(weights)

    def observe(self, rows: Sequence[int], losses: Tensor, weights: Tensor) -> None:
        """Raise the weights of the groups that fare badly. Losses: of these rows, shape (B,)."""
        losses, weights = (given.detach().to("cpu", torch.float64) for given in (losses, weights))
        means = group_means(losses, self.numbers[list(rows)], weights, len(self.names))
        running = torch.where(self.losses.isnan(), means, MEMORY * self.losses + (1 - MEMORY) * means)
        self.losses = torch.where(means.isnan(), self.losses, running)
        known = self.losses.where(~self.losses.isnan(), self.losses.nanmean())  # unseen: as the others on average
        self.weights = raised_group_weights(self.weights, known, self.sizes, **self.how)

    def by_name(self) -> dict[str, float]:
        return {str(name): weight for name, weight in zip(self.names, self.weights.tolist(), strict=True)}

    def state_dict(self) -> dict[str, Any]:
        return {"weights": self.weights, "losses": self.losses}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.weights, self.losses = state["weights"].clone(), state["losses"].clone()
