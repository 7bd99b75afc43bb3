"""Answers in words."""

from labelapp.models import Judgment

DEGREES = {1: "slightly better", 2: "better", 3: "far better"}


def answer_in_words(judgment: Judgment) -> str:
    """Such as "2 far better", "tie" or "3 > 1 = 4 > 2", counting completions from 1."""
    if judgment.withdrawn:
        return "withdrawn"
    if judgment.both_bad:
        return "both bad"
    tiers = judgment.ranking
    if len(tiers) == 1:
        return "tie"
    if sorted(map(len, tiers)) == [1, 1]:
        return f"{tiers[0][0] + 1} {DEGREES.get(abs(judgment.strength or 0), 'better')}"
    return " > ".join(" = ".join(str(position + 1) for position in tier) for tier in tiers)
