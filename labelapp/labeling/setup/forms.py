"""The forms of the setup pages, but for the protocol's."""

from dataclasses import fields

from django import forms
from django.utils.translation import gettext_lazy as _

from labelapp.labeling.setup.actions import (
    LONGEST_DESCRIPTION,
    LONGEST_NAME,
    LONGEST_TEXT,
    MOST_A_DAY,
    MOST_OVERLAP,
    MOST_QUIZ,
    MOST_SECONDS,
    Rules,
)
from labelapp.labeling.setup.presets import PRESETS
from labelapp.models import Project


class PercentField(forms.FloatField):
    """A share between 0 and 1, written in percent."""

    def __init__(self, *, most: int, **more):
        super().__init__(min_value=0, max_value=most, widget=forms.NumberInput(attrs={"step": "any"}), **more)

    def prepare_value(self, value):
        return f"{value * 100:.6g}" if isinstance(value, float) else value

    def clean(self, value) -> float:
        return round(super().clean(value) / 100, 8)


class ProjectForm(forms.Form):
    """Name and description."""

    name = forms.CharField(label=_("Name"), max_length=LONGEST_NAME)
    description = forms.CharField(
        label=_("Description"), max_length=LONGEST_DESCRIPTION, required=False,
        widget=forms.Textarea(attrs={"rows": 3}),
        help_text=_("A sentence about what is judged here, for members and for whoever reads the data."),
    )  # fmt: skip

    def __init__(self, *args, **more):
        super().__init__(*args, label_suffix="", **more)


class NewProjectForm(ProjectForm):
    """And the short name, and what is asked at first."""

    slug = forms.SlugField(
        label=_("Short name"), max_length=50, required=False,
        help_text=_("Part of every address; it stays. Empty: made from the name."),
    )  # fmt: skip
    preset = forms.ChoiceField(
        label=_("What is asked"), choices=[(preset.key, preset.title) for preset in PRESETS.values()],
        help_text=_("A start; everything about it can be changed afterwards."),
    )  # fmt: skip
    field_order = ["name", "slug", "description", "preset"]


class TextForm(forms.Form):
    """A text in markdown."""

    text = forms.CharField(
        label=_("Text"), max_length=LONGEST_TEXT, widget=forms.Textarea(attrs={"rows": 18}), help_text=_("Markdown.")
    )

    def __init__(self, *args, **more):
        super().__init__(*args, label_suffix="", **more)


class RulesForm(forms.Form):
    """How the queue is run."""

    overlap = forms.IntegerField(
        label=_("Judgments a comparison"), min_value=1, max_value=MOST_OVERLAP,
        help_text=_("By as many different people each new comparison is judged."),
    )  # fmt: skip
    max_overlap = forms.IntegerField(
        label=_("At most, where they disagree"), required=False, min_value=1, max_value=MOST_OVERLAP,
        help_text=_("A disagreement adds judgments up to this number. Empty: none are added."),
    )  # fmt: skip
    daily_cap = forms.IntegerField(
        label=_("Judgments a day"), required=False, min_value=1, max_value=MOST_A_DAY,
        help_text=_("After so many a labeler gets nothing more until tomorrow (UTC). Empty: no limit."),
    )  # fmt: skip
    repeat_share = PercentField(
        label=_("Swapped repeats, in percent"), most=50,
        help_text=_("So many items come back to the same person later with the sides swapped: do they agree with "
                    "themselves?"),
    )  # fmt: skip
    gold_share = PercentField(
        label=_("Gold questions, in percent"), most=50,
        help_text=_("So many items have a known answer, and the labeler learns afterwards why."),
    )  # fmt: skip
    quiz_items = forms.IntegerField(
        label=_("Items of the quiz"), min_value=0, max_value=MOST_QUIZ,
        help_text=_("Gold questions that a new labeler answers before the first real item. 0: no quiz."),
    )  # fmt: skip
    quiz_right = forms.IntegerField(
        label=_("Right answers to pass"), min_value=0, max_value=MOST_QUIZ,
        help_text=_("Of those items; no more than there are."),
    )  # fmt: skip
    review_share = PercentField(
        label=_("Reviews, in percent"), most=100,
        help_text=_("So many judgments are looked at by a reviewer, who may correct or return them."),
    )  # fmt: skip
    minimum_seconds = forms.FloatField(
        label=_("Seconds before an answer"), min_value=0, max_value=MOST_SECONDS,
        widget=forms.NumberInput(attrs={"step": "any"}),
        help_text=_("An item must be on the screen for as long before it can be answered; labelers see it."),
    )  # fmt: skip
    hourly_cost = forms.DecimalField(
        label=_("Cost of an hour of labeling"), required=False, min_value=0, max_value=9999, decimal_places=2,
        help_text=_("For the estimate on the dashboard. Empty: no estimate."),
    )  # fmt: skip
    currency = forms.CharField(
        label=_("Currency"), max_length=3, help_text=_("Three letters such as EUR or USD.")
    )

    def __init__(self, *args, project: Project, **more):
        initial = {field.name: getattr(project, field.name) for field in fields(Rules)}
        initial["minimum_seconds"] = f"{project.minimum_seconds:g}"
        super().__init__(*args, initial=initial, label_suffix="", **more)

    def in_force(self) -> list[tuple[str, str]]:
        """Label and value of each rule that does something."""
        said = [(field.label, str(field.value())) for field in self if field.name != "currency"]
        return [(label, value) for label, value in said if value not in ("None", "0")]

    def clean_currency(self) -> str:
        return self.cleaned_data["currency"].upper()

    def rules(self) -> Rules:
        return Rules(**self.cleaned_data)
