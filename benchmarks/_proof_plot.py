"""The plot of over-optimisation: gold against the root of the KL, for best-of-n, the methods and the run without KL."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from alignment.measures.overoptimisation import Curve, fit, points, shape
from benchmarks._proof_figures import CONTROL, METHODS, best_of_curve, run_curve
from benchmarks._proof_seed import Found

LABELS = {"dpo": "DPO", "ppo": "PPO", "grpo": "GRPO", "safe_grpo": "safe GRPO", CONTROL: "DPO, shuffled labels"}


def require_matplotlib() -> None:
    """Raises SystemExit with the remedy before an hour of work is lost."""
    try:
        import matplotlib  # noqa: F401
    except ImportError:
        raise SystemExit("--plot needs matplotlib, of the extra 'dev'; `python3 manage.py test` installs it") from None


def draw(path: str | Path, found: Sequence[Found]) -> None:
    """Write the plot as PNG, or as what else the path's suffix names."""
    import matplotlib

    matplotlib.use("agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(7, 4.5), layout="constrained")
    for curve, form, label, color in (
        (best_of_curve(found), "best_of_n", "best of n", "tab:gray"),
        (run_curve(found), "learning", "GRPO without KL", "black"),
    ):
        draw_curve(axes, curve, form, label, color)
    for name in (*METHODS, CONTROL):
        policies = [seed.policies[name] for seed in found]
        distances = np.sqrt([max(0.0, policy.kl.mean()) for policy in policies])
        axes.plot(distances, [policy.gain.mean() for policy in policies], "x", label=LABELS[name])
    axes.axhline(0, color="black", linewidth=0.5)
    axes.set(xlabel="square root of the KL to SFT, nats an answer", ylabel="gold over SFT, held-out prompts")
    axes.legend(fontsize="small")
    figure.savefig(path, dpi=150)
    pyplot.close(figure)


def draw_curve(axes, curve: Curve, form: str, label: str, color: str) -> None:
    """The points, and the fitted curve as far as the points go."""
    distances, gold = points(curve, np.arange(curve.kl.shape[1]))
    found, along = fit(distances, gold, form), np.linspace(0, distances.max(), 200)
    axes.plot(distances, gold, "o", color=color, markersize=4, label=label)
    axes.plot(along, shape(along, form) @ [found.alpha, found.beta], color=color, linewidth=1)
