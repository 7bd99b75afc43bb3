"""How a measured figure is written for a person: one wording for the gate's sentences and for every page."""

NAMES = {
    "reward_accuracy": "Held-out reward accuracy",
    "accuracy_chosen_shorter": "Accuracy where the chosen answer is shorter",
    "accuracy_chosen_longer": "Accuracy where the chosen answer is longer",
    "length_correlation": "Correlation of reward and length",
    "length_rank_correlation": "Rank correlation of reward and length",
    "calibration_error": "Calibration error",
    "counterfactual_flip_rate": "Verdicts that flip when gender words swap",
    "counterfactual_flip_rate_templates": "Verdicts that flip when gender words swap, templates",
    "counterfactual_gap": "Score moved by the gender swap",
    "counterfactual_gap_templates": "Score moved by the gender swap, templates",
    "counterfactual_direction_templates": "Score of a man over a woman, templates",
    "accuracy_of_cost": "Accuracy of the cost head at its boundary",
    "auc_of_cost": "An unsafe answer costs more than a safe one",
    "ensemble_spread": "Spread between the heads of the ensemble",
    "ensemble_agreement": "Pairs on which the heads of the ensemble agree",
    "accuracy_ensemble_agrees": "Accuracy where the heads of the ensemble agree",
    "accuracy_ensemble_differs": "Accuracy where the heads of the ensemble differ",
    "accuracy_price": "Accuracy price of the mitigation",
    "accuracy_length_much_shorter": "Accuracy where the chosen answer is at most half as long",
    "accuracy_length_shorter": "Accuracy where the chosen answer is somewhat shorter",
    "accuracy_length_similar": "Accuracy where both answers are about as long",
    "accuracy_length_longer": "Accuracy where the chosen answer is somewhat longer",
    "accuracy_length_much_longer": "Accuracy where the chosen answer is twice as long",
    "human_win_rate": "Win rate against the champion, by people, blind",
    "win_rate": "Win rate against the parent",
    "win_rate_length_controlled": "Win rate against the parent at equal length",
    "distinct_1": "Different tokens among the answers to a prompt",
    "distinct_2": "Different token pairs among the answers to a prompt",
    "answer_overlap": "Tokens that two answers to a prompt share",
    "kl_to_parent": "KL to the parent",
    "mean_length_tokens": "Mean length",
    "reward_gain": "Reward gained over the parent",
    "repetition": "Repeated runs of four tokens",
    "end_of_text_rate": "Answers that end by themselves",
    "safe_refusal": "Harmless prompts refused (XSTest)",
    "unsafe_compliance": "Dangerous prompts answered (XSTest)",
    "refusal_discrimination": "Refusals of dangerous less of harmless prompts",
    "bbq_accuracy_ambiguous": "BBQ: says that the text does not tell",
    "bbq_accuracy_disambiguated": "BBQ: finds the answer that the text tells",
    "bbq_bias_ambiguous": "BBQ: stereotype where the text does not tell",
    "bbq_bias_disambiguated": "BBQ: stereotype where the text tells",
    "calibration_temperature": "Temperature that would calibrate the scores",
    "calibration_error_scaled": "Calibration error under that temperature",
}
BASELINES = {"tfidf": "tf-idf", "tfidf_length": "tf-idf with length"}
SHARES = {"share", "rate", "probability"}
SUFFIXES = {"nats": "nats", "nats per answer": "nats", "tokens": "tokens", "sd": "sd", "MiB": "MiB"}


def name(key: str) -> str:
    """The metric's name in words."""
    if key.endswith("_change"):
        return f"{name(key.removesuffix('_change'))}: change"
    return NAMES.get(key) or key.replace("_", " ").capitalize()


def baseline(key: str) -> str:
    """What stands beside a figure, in words: a trivial baseline, the parent or the labels."""
    return BASELINES.get(key) or key.replace("_", " ")


def number(value: float | None, unit: str = "") -> str:
    """A value without its unit: a share in percent with one decimal, other figures with three digits that count."""
    if value is None:
        return "–"
    if unit in SHARES:
        written = f"{100 * value:.1f}"
    else:
        written = f"{value:.0f}" if abs(value) >= 100 else f"{value:.3g}" if abs(value) >= 0.01 else f"{value:.3f}"
    return written.replace("-", "−")


def sign(unit: str) -> str:
    """What stands behind the number: " %", " nats" or nothing."""
    if unit in SHARES:
        return " %"
    return f" {SUFFIXES[unit]}" if unit in SUFFIXES else ""


def text(value: float | None, unit: str = "") -> str:
    return "–" if value is None else number(value, unit) + sign(unit)


def interval(low: float | None, high: float | None, unit: str = "") -> str:
    """Such as "[56.0, 66.1]"; empty where there is no interval."""
    return "" if low is None or high is None else f"[{number(low, unit)}, {number(high, unit)}]"


def sentence(metric: dict) -> str:
    """Such as "Win rate against the parent 58.4 % [54.1, 62.6]"."""
    unit = metric.get("unit") or ""
    parts = [name(metric["key"]), text(metric["value"], unit), interval(metric["low"], metric["high"], unit)]
    return " ".join(filter(None, parts))
