"""The launch form: what is trained, on what, from where; the numbers behind a fold."""

from typing import Any

from django import forms

from labelapp.models import Project, Snapshot, Version
from labelapp.rounds.presets import PRESETS, options_of
from labelapp.rounds.recipes import OptionRefused, default_of, read_changes

LARGEST_SEED = 2**31 - 1


class LaunchForm(forms.Form):
    """Fields of the recipe are named by the path of the config value, such as "preference.beta"."""

    recipe = forms.ChoiceField(choices=[(name, preset.title) for name, preset in PRESETS.items()])
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
        help_text="One a line, as reward.lora.rank=16; python -m alignment reward --help lists what a stage takes.",
        widget=forms.Textarea(attrs={"rows": 3, "spellcheck": "false", "class": "code"}),
    )

    def __init__(self, *args, project: Project, recipe: str, **kwargs):
        super().__init__(*args, label_suffix="", **kwargs)
        self.options = {option.path: option for option in options_of(recipe)}
        self.defaults = {path: default_of(path, recipe) for path in self.options}
        self.fields["recipe"].widget = forms.HiddenInput()
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
            return read_changes(line for line in self.cleaned_data["further"].splitlines() if line.strip())
        except OptionRefused as refusal:
            raise forms.ValidationError(str(refusal)) from refusal

    def changes(self) -> dict[str, Any]:
        """The config values that differ from the recipe's own; what is written by hand goes before its field."""
        given = {path: self.cleaned_data.get(path) for path in self.options}
        changed = {path: value for path, value in given.items() if value is not None and value != self.defaults[path]}
        return changed | self.cleaned_data["further"]


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
