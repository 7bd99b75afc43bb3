"""Protocols of every form, for the tests of the page."""

LIKERT = {"key": "helpful", "label": "Helpfulness", "low": 0, "high": 4, "low_word": "not at all", "high_word": "fully"}
FLUENT = {"key": "fluent", "label": "Fluency", "kind": "slider", "low_word": "broken", "high_word": "fluent"}
MADE_UP = {"key": "made_up", "label": "Makes things up", "kind": "flag"}
RUDE = {"key": "rude", "label": "Is rude", "kind": "flag"}

PAIR = {"question": "Which answer is better?"}
PAIR_FULL = PAIR | {
    "max_strength": 4,
    "grades": ["a shade better", "clearly better", "much better", "in another league"],
    "criteria": [LIKERT, MADE_UP, RUDE],
    "criteria_first": True,
    "safety": True,
    "span_reasons": ["wrong", "unsafe"],
    "chips": ["more correct", "clearer", "shorter"],
    "rationale": "required",
    "rationale_from": 3,
    "rationale_words": 4,
    "rewrite": "both_bad",
}
RANKING = {"question": "How do they rank?", "form": "ranking", "unrankable": True}
RATING = {
    "question": "How good is each by itself?",
    "form": "rating",
    "criteria": [LIKERT, {"key": "wordy", "label": "Verbosity", "low": -1, "high": 1}, FLUENT, MADE_UP],
    "safety": True,
    "rationale": "required",
    "chips": ["clear", "wrong"],
    "rewrite": "optional",
}
DEMONSTRATION = {"question": "Write the answer that you want.", "form": "demonstration", "rationale": "off"}
