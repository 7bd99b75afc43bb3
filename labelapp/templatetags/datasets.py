"""What the data pages say in words."""

from django import template

from labelapp.datasets.words import answer_in_words

register = template.Library()
register.filter("in_words", answer_in_words)
