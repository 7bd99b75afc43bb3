"""Answers in words."""

from labelapp.labeling.protocol import parse
from labelapp.models import Judgment


def answer_in_words(judgment: Judgment) -> str:
    """Such as "2 far better", "tie" or "3 > 1 = 4 > 2", counting completions from 1."""
    if judgment.withdrawn:
        return "withdrawn"
    if judgment.both_bad:
        return "both bad"
    tiers = judgment.ranking
    if tiers is None:
        return "an answer of their own" if judgment.rewrite else "rated"
    if len(tiers) == 1:
        return "tie"
    if sorted(map(len, tiers)) == [1, 1]:
        words = ("better", *parse(judgment.protocol.definition).words)
        return f"{tiers[0][0] + 1} {words[abs(judgment.strength or 0)]}"
    return " > ".join(" = ".join(str(position + 1) for position in tier) for tier in tiers)
