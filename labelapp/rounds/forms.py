"""The launch form: what is trained, on what, from where; the numbers behind a fold."""

import json
import re
from typing import Any

from django import forms

from labelapp.models import Project, RecipeVersion, Schedule, Snapshot, Version
from labelapp.rounds.presets import PRESETS, USUAL, options_of
from labelapp.rounds.recipes import OptionRefused, default_of, plan_stages, read_settings
from labelapp.rounds.saved import LONGEST_NAME, LONGEST_NOTE, is_unchanged, versions_of
from labelapp.rounds.schedule import BadCron, read_cron

LARGEST_SEED = 2**31 - 1


class LaunchForm(forms.Form):
    """Fields of the recipe are named by the path of the config value, such as "preference.beta".

    saved: the recipe version that the form was filled from; the round names it where nothing was changed.
    """

    recipe = forms.ChoiceField(choices=[(name, preset.title) for name, preset in PRESETS.items()])
    saved = forms.ModelChoiceField(RecipeVersion.objects.none(), required=False, widget=forms.HiddenInput)
    snapshot = forms.ModelChoiceField(Snapshot.objects.none(), empty_label=None)
    parent = forms.ModelChoiceField(Version.objects.none(), empty_label=None, label="Parent version")
    mitigation = forms.BooleanField(
        required=False,
        label="Counterfactual penalty",
        help_text="Trains the reward model twice, with the penalty off and on, and compares the two.",
    )
    seed = forms.IntegerField(min_value=0, max_value=LARGEST_SEED, initial=0, required=False)
    further = forms.CharField(
        required=False,
        label="Further settings",
        help_text=(
            "One a line, as reward.lora.rank=16 or reward.devices=2; python -m alignment reward --help lists what a "
            "stage takes."
        ),
        widget=forms.Textarea(attrs={"rows": 3, "spellcheck": "false", "class": "code"}),
    )
    save_name = forms.CharField(
        required=False, max_length=LONGEST_NAME, label="Name",
        help_text="A name that is there already gets its next version.",
    )  # fmt: skip
    save_note = forms.CharField(required=False, max_length=LONGEST_NOTE, label="Note", help_text="What it is for.")

    def __init__(self, *args, project: Project, recipe: str, **kwargs):
        super().__init__(*args, label_suffix="", **kwargs)
        self.options = {option.path: option for option in options_of(recipe)}
        self.defaults = {path: default_of(path, recipe) for path in self.options}
        self.fields["recipe"].widget = forms.HiddenInput()
        self.fields["saved"].queryset = versions_of(project)
        self.fields["snapshot"].queryset = project.snapshots.all()
        self.fields["snapshot"].label_from_instance = snapshot_label
        self.fields["parent"].queryset = project.versions.filter(kind=Version.Kind.POLICY)
        self.fields["parent"].label_from_instance = version_label
        for path, option in self.options.items():
            self.fields[path] = number_field(self.defaults[path], label=option.label, hint=option.hint)

    def numbers(self) -> list[forms.BoundField]:
        return [*(self[path] for path in self.options), self["seed"]]

    def clean_further(self) -> dict[str, Any]:
        try:
            return read_settings(self.cleaned_data["further"])
        except OptionRefused as refusal:
            raise forms.ValidationError(str(refusal)) from refusal

    def changes(self) -> dict[str, Any]:
        """The config values that differ from the recipe's own; what is written by hand goes before its field."""
        given = {path: self.cleaned_data.get(path) for path in self.options}
        changed = {path: value for path, value in given.items() if value is not None and value != self.defaults[path]}
        return changed | self.cleaned_data["further"]

    def unchanged(self) -> RecipeVersion | None:
        """The saved version that the form still says, if any."""
        given = self.cleaned_data
        saved = given["saved"]
        return saved if saved and is_unchanged(saved, given["recipe"], given["mitigation"], self.changes()) else None


def filled_from(saved: RecipeVersion) -> dict[str, Any]:
    """What the form shows of a saved version: a setting that has no field of its own is written out."""
    fields = {option.path for option in options_of(saved.preset)}
    further = {path: value for path, value in saved.changes.items() if path not in fields}
    shown = {path: value for path, value in saved.changes.items() if path in fields}
    lines = "\n".join(f"{path}={json.dumps(value, ensure_ascii=False)}" for path, value in further.items())
    about = {"recipe": saved.preset, "saved": saved.pk, "mitigation": saved.mitigation, "further": lines}
    return shown | about | {"save_name": saved.recipe.name}


def number_field(default, *, label: str, hint: str) -> forms.Field:
    kind = forms.IntegerField if isinstance(default, int) else forms.FloatField
    return kind(
        required=False,
        initial=default,
        label=label,
        help_text=hint,
        widget=forms.NumberInput(attrs={"step": "1" if isinstance(default, int) else "any"}),
    )


def snapshot_label(snapshot: Snapshot) -> str:
    day = snapshot.created_at.strftime("%-d %B %Y")
    return f"{snapshot} · {snapshot.pairs_train:,} pairs to train, {snapshot.pairs_test:,} to test · {day}"


def version_label(version: Version) -> str:
    return f"{version.name} · {version.state}"


class ComputeForm(forms.ModelForm):
    """What an hour of a machine costs, and how much a month may take."""

    class Meta:
        model = Project
        fields = ["cpu_hour_price", "gpu_hour_price", "currency", "budget_device_hours", "budget_money"]
        labels = {
            "cpu_hour_price": "Price of an hour on CPU",
            "gpu_hour_price": "Price of a GPU-hour",
            "budget_device_hours": "Device-hours a month",
            "budget_money": "Money a month",
        }
        help_texts = {
            "cpu_hour_price": "0: no money is reckoned for it.",
            "gpu_hour_price": "0: no money is reckoned for it.",
            "currency": "Three letters such as EUR or USD, for labeling too.",
            "budget_device_hours": "Empty: no limit.",
            "budget_money": "Empty: no limit.",
        }

    def __init__(self, *args, **kwargs):
        super().__init__(*args, label_suffix="", **kwargs)
        for name, field in self.fields.items():
            if name != "currency":
                field.min_value = 0
                field.widget.attrs |= {"min": "0", "step": "any"}

    def clean_currency(self) -> str:
        currency = self.cleaned_data["currency"].upper()
        if not re.fullmatch("[A-Z]{3}", currency):
            raise forms.ValidationError(f"A currency is three letters such as EUR, not {currency!r}.")
        return currency


class ScheduleForm(forms.ModelForm):
    """When rounds begin by themselves, and with what."""

    class Meta:
        model = Schedule
        fields = ["enabled", "every_judgments", "cron", "recipe_version", "recipe", "mitigation", "further"]
        labels = {
            "enabled": "Launch rounds by themselves",
            "every_judgments": "After so many new judgments",
            "cron": "And by the clock",
            "recipe_version": "Saved recipe",
            "mitigation": "Counterfactual penalty",
            "further": "Further settings",
        }
        help_texts = {
            "every_judgments": "Empty: only by the clock.",
            "cron": "Minute, hour, day, month and weekday in UTC, as 0 3 * * 1: Mondays at three. Empty: never.",
            "recipe_version": "Goes before the three fields below.",
            "mitigation": "Trains the reward model twice; then it is not measured beside the earlier one.",
            "further": "One a line, as preference.beta=0.2.",
        }
        widgets = {"further": forms.Textarea(attrs={"rows": 3, "spellcheck": "false", "class": "code"})}

    recipe = forms.ChoiceField(choices=[(name, preset.title) for name, preset in PRESETS.items()])

    def __init__(self, *args, **kwargs):
        super().__init__(*args, label_suffix="", **kwargs)
        self.fields["recipe_version"].queryset = versions_of(self.instance.project)
        self.fields["recipe_version"].empty_label = "none: the settings below"

    def clean_cron(self) -> str:
        text = " ".join(self.cleaned_data["cron"].split())
        try:
            if text:
                read_cron(text)
        except BadCron as refusal:
            raise forms.ValidationError(str(refusal)) from refusal
        return text

    def clean(self) -> dict[str, Any]:
        given = super().clean()
        if given.get("enabled") and not given.get("every_judgments") and not given.get("cron"):
            self.add_error("every_judgments", "Say after how many judgments a round begins, or at what time.")
        try:
            changes = read_settings(given.get("further", ""))
            plan_stages(given.get("recipe", USUAL), mitigation=given.get("mitigation", False), changes=changes)
        except OptionRefused as refusal:
            self.add_error("further", str(refusal))
        return given
