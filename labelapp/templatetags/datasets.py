"""What the data pages say in words."""

from django import template

from labelapp.labeling.protocol import parse
from labelapp.labeling.reviews.words import in_words
from labelapp.labeling.words import answer_in_words, stored_in
from labelapp.models import Judgment

register = template.Library()
register.filter("in_words", answer_in_words)


@register.filter
def everything_else(judgment: Judgment) -> list[tuple[str, str]]:
    """What a judgment says besides its overall answer, counting completions from 1: ("Clear", "#1 4 / 5, #2 2 / 5")."""
    return in_words(stored_in(judgment), parse(judgment.protocol.definition), lambda position: f"#{position + 1}")
