"""The proof's figures: seeds pooled by prompt, each method beside best-of-n at its KL, the control and the limit."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from alignment.measures.overoptimisation import Curve, Fit, best_of_n_kl, fit, points
from alignment.measures.statistics import cluster_bootstrap, cluster_mean, paired_t
from benchmarks import _proof_recipe as recipe
from benchmarks._proof_seed import Found, Policy

METHODS = ("dpo", "ppo", "grpo", "safe_grpo")
CONTROL = "shuffled_dpo"
Statistic = Callable[[np.ndarray], float]  # numbers of prompts, with repeats, to a figure


def figures(found: Sequence[Found], prompts: Sequence[str], resamples: int) -> dict[str, Any]:
    """Everything that the proof prints besides the time."""

    def interval(statistic: Statistic) -> dict[str, Any]:
        return entry(cluster_bootstrap(statistic, prompts, resamples=resamples))

    return {
        "reward_accuracy": {name: accuracy(found, name, resamples) for name in ("noisy", "clean")},
        "sft": {"gold": interval(pooled([seed.base_gold for seed in found])),
                "cost": interval(pooled([seed.base_cost for seed in found]))},
        "best_of_n": [{"n": n, "kl": rounded(best_of_n_kl(n)), **interval(pooled([seed.best_of[n] for seed in found]))}
                      for n in found[0].best_of],
        "methods": {name: method_figures(found, name, interval) for name in METHODS},
        "shuffled_control": control_figures(found, interval),
        "safety": safety_figures(found, interval),
        "overoptimisation": curve_figures(found, interval),
    }  # fmt: skip


def pooled(values: Sequence[np.ndarray]) -> Statistic:
    """The mean over seeds and prompts of (P,) values a seed."""
    together = np.stack(values)  # (S, P)
    return lambda prompts: float(together[:, prompts].mean())


def accuracy(found: Sequence[Found], name: str, resamples: int) -> dict[str, Any]:
    right = np.concatenate([seed.accuracy[name] for seed in found])
    return entry(cluster_mean(right, [p for seed in found for p in seed.pair_prompts], resamples=resamples))


def method_figures(found: Sequence[Found], name: str, interval: Callable[[Statistic], dict]) -> dict[str, Any]:
    policies = [seed.policies[name] for seed in found]
    return {
        "gain": interval(pooled([policy.gain for policy in policies])),
        "win_rate": interval(pooled([policy.win for policy in policies])),
        "kl": interval(pooled([policy.kl for policy in policies])),
        "t": [rounded(paired_t(policy.gain), 1) for policy in policies],
        "over_best_of_n_at_its_kl": beside_best_of_n(found, policies, interval),
    }


def beside_best_of_n(
    found: Sequence[Found], policies: Sequence[Policy], interval: Callable[[Statistic], dict]
) -> dict[str, Any]:
    """The method's gain less best-of-n's at the same KL, over the seeds whose KL best-of-n reaches."""
    reached = [(s, p) for s, p in zip(found, policies, strict=True) if p.kl.mean() <= best_of_n_kl(max(s.best_of))]

    def difference(prompts: np.ndarray) -> float:
        rows = [(p.gain[prompts].mean(), best_of_at(s, p.kl[prompts].mean(), prompts)) for s, p in reached]
        return float(np.mean([ours - best for ours, best in rows]))

    beyond = len(found) - len(reached)
    most = rounded(best_of_n_kl(max(found[0].best_of)))
    return {**(interval(difference) if reached else {}), "seeds_beyond_best_of_n": beyond, "best_of_n_reaches": most}


def best_of_at(seed: Found, kl: float, prompts: np.ndarray) -> float:
    """Best-of-n's gain at a KL in nats, linear in its root between the n measured; the last one's beyond it."""
    distances = [math.sqrt(best_of_n_kl(n)) for n in seed.best_of]
    gains = [gain[prompts].mean() for gain in seed.best_of.values()]
    return float(np.interp(math.sqrt(max(kl, 0.0)), distances, gains))


def control_figures(found: Sequence[Found], interval: Callable[[Statistic], dict]) -> dict[str, Any]:
    """DPO on the same pairs with shuffled labels, and which share of the true labels' gain that is."""
    shuffled, true = ([seed.policies[name].gain for seed in found] for name in (CONTROL, "dpo"))
    share = np.mean(shuffled) / np.mean(true)
    return {
        "gain": interval(pooled(shuffled)),
        "t": [rounded(paired_t(gain), 1) for gain in shuffled],
        "kl": rounded(np.mean([seed.policies[CONTROL].kl for seed in found])),
        "share_of_dpo": rounded(share),
        "at_most_a_fifth": bool(share <= 0.2),
    }


def safety_figures(found: Sequence[Found], interval: Callable[[Statistic], dict]) -> dict[str, Any]:
    """The share of answers that hold a costly word, under the limit and without it."""
    safe, plain = (interval(pooled([s.policies[name].cost for s in found])) for name in ("safe_grpo", "grpo"))
    limit = recipe.COST_LIMIT
    kept = safe["high"] is not None and safe["high"] <= limit < plain["low"]
    return {"limit": limit, "safe_grpo": safe, "grpo": plain, "only_safe_grpo_keeps_it": bool(kept)}


def run_curve(found: Sequence[Found]) -> Curve:
    """The run without KL: a point a leg of the first seed."""
    legs = {name: policy for name, policy in found[0].policies.items() if name.startswith("run_")}
    kl, gold = (np.stack([getattr(policy, of) for policy in legs.values()]) for of in ("kl", "gain"))
    return Curve(kl, gold, np.full_like(gold, math.nan), list(legs))


def best_of_curve(found: Sequence[Found]) -> Curve:
    gold = np.stack([np.mean([seed.best_of[n] for seed in found], axis=0) for n in found[0].best_of])
    kl = np.stack([np.full(gold.shape[1], best_of_n_kl(n)) for n in found[0].best_of])
    return Curve(kl, gold, np.full_like(gold, math.nan), [f"best of {n}" for n in found[0].best_of])


def curve_figures(found: Sequence[Found], interval: Callable[[Statistic], dict]) -> dict[str, Any]:
    """Gao's two forms, fitted again on every draw of prompts; a peak only where the curve has one."""

    def fitted(curve: Curve, form: str) -> dict[str, Any]:
        named = {"alpha": lambda f: f.alpha, "beta": lambda f: f.beta, "r2": lambda f: f.r2,
                 "peak_kl": lambda f: f.peak(form)}  # fmt: skip

        def of(read: Callable[[Fit], float]) -> dict[str, Any]:
            return interval(lambda prompts: read(fit(*points(curve, prompts), form)))

        kl, gold = curve.kl.mean(1), curve.gold.mean(1)
        at = [{"kl": rounded(k, 2), "gain": rounded(g)} for k, g in zip(kl, gold, strict=True)]
        return {"form": form, **{key: of(read) for key, read in named.items()}, "points": at}

    return {
        "best_of_n": fitted(best_of_curve(found), "best_of_n"),
        "run_without_kl": fitted(run_curve(found), "learning"),
    }


def entry(found: Any) -> dict[str, Any]:
    return {key: None if value is None else rounded(value) for key, value in
            (("value", found.value), ("low", found.low), ("high", found.high))}  # fmt: skip


def rounded(value: float, digits: int = 3) -> float:
    return round(float(value), digits)
