"""What the data pages say in words."""

from django import template

from labelapp.labeling.words import answer_in_words

register = template.Library()
register.filter("in_words", answer_in_words)
