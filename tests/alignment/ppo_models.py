"""The four models of a PPO run, small and all different, so that none can stand in for another unnoticed."""

from __future__ import annotations

from pathlib import Path

from tests.tiny_models import make_tiny_policy, make_tiny_reward


def make_models(folder: Path) -> Path:
    """Directories policy, reference, reward and value."""
    make_tiny_policy(folder / "policy", seed=0)
    make_tiny_policy(folder / "reference", seed=1)
    make_tiny_reward(folder / "reward", folder / "policy", seed=2)
    make_tiny_reward(folder / "value", folder / "reference", seed=3)
    return folder
