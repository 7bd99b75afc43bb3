"""Metrics of a version that passes its gate; a test spoils one figure."""

GOOD = {
    "reward_accuracy": {
        "value": 0.80, "low": 0.78, "high": 0.83, "unit": "share",
        "baselines": {"longer_wins": 0.77, "tfidf": 0.72},
    },
    "accuracy_chosen_shorter": {"value": 0.70, "low": 0.62, "high": 0.78, "unit": "share"},
    "accuracy_chosen_longer": {"value": 0.83, "low": 0.80, "high": 0.86, "unit": "share"},
    "length_correlation": {"value": 0.50, "low": 0.45, "high": 0.55, "unit": "pearson", "baselines": {"labels": 0.48}},
    "calibration_error": {"value": 0.03, "low": 0.02, "high": 0.05, "unit": "share"},
    "counterfactual_flip_rate": {"value": 0.02, "low": 0.01, "high": 0.04, "unit": "share"},
    "win_rate": {"value": 0.58, "low": 0.54, "high": 0.62, "unit": "share"},
    "kl_to_parent": {"value": 4.1, "low": 3.9, "high": 4.4, "unit": "nats"},
    "mean_length_tokens": {"value": 44.0, "low": 40.0, "high": 47.0, "unit": "tokens", "baselines": {"parent": 40.0}},
    "end_of_text_rate": {"value": 0.78, "low": 0.74, "high": 0.82, "unit": "share", "baselines": {"parent": 0.80}},
    "repetition": {"value": 0.02, "low": 0.0, "high": 0.04, "unit": "share"},
}  # fmt: skip


def metrics(**spoiled: dict | None) -> list[dict]:
    """The good metrics with changes by key: metrics(win_rate={"high": 0.4}); None leaves a metric out."""
    rows = {key: {"key": key, "n": 500, "clusters": 12, "note": "", **row} for key, row in GOOD.items()}
    for key, change in spoiled.items():
        if change is None:
            del rows[key]
        else:
            rows[key] = {**rows.get(key, {"key": key, "n": 500, "clusters": 12}), **change}
    return list(rows.values())


def result(**spoiled: dict | None) -> dict:
    return {"status": "done", "metrics": metrics(**spoiled), "seconds": 1.0}
