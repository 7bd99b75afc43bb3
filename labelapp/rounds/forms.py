"""The launch form: what is trained, on what, from where; the numbers behind a fold."""

from django import forms

from labelapp.models import Project, Snapshot, Version
from labelapp.rounds.recipes import OPTIONS, PRESETS, default_of

LARGEST_SEED = 2**31 - 1


class LaunchForm(forms.Form):
    """Fields of the recipe are named by the path of the config value, such as "preference.beta"."""

    recipe = forms.ChoiceField(choices=[(name, preset["title"]) for name, preset in PRESETS.items()])
    snapshot = forms.ModelChoiceField(Snapshot.objects.none(), empty_label=None)
    parent = forms.ModelChoiceField(Version.objects.none(), empty_label=None, label="Parent version")
    mitigation = forms.BooleanField(
        required=False,
        label="Counterfactual penalty",
        help_text="Trains the reward model twice, with the penalty off and on, and compares the two.",
    )
    seed = forms.IntegerField(min_value=0, max_value=LARGEST_SEED, initial=0, required=False)

    def __init__(self, *args, project: Project, **kwargs):
        super().__init__(*args, label_suffix="", **kwargs)
        self.fields["snapshot"].queryset = project.snapshots.all()
        self.fields["snapshot"].label_from_instance = snapshot_label
        self.fields["parent"].queryset = project.versions.filter(kind=Version.Kind.POLICY)
        self.fields["parent"].label_from_instance = version_label
        for path, (label, hint) in OPTIONS.items():
            self.fields[path] = number_field(default_of(path), label=label, hint=hint)

    def advanced(self) -> list[forms.BoundField]:
        return [self["seed"], *(self[path] for path in OPTIONS)]

    def changes(self) -> dict[str, float]:
        """The config values that differ from the recipe's own."""
        given = {path: self.cleaned_data.get(path) for path in OPTIONS}
        return {path: value for path, value in given.items() if value is not None and value != default_of(path)}


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
