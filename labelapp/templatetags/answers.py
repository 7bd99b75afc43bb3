"""The fields of an answer, for the partials of the labeling page."""

from django import template

from labelapp.labeling.fields import answer_fields

register = template.Library()
register.simple_tag(answer_fields)
