"""The gate's form: a line for each figure that the project's policies were measured by."""

from collections.abc import Iterable
from typing import Any, NamedTuple

from django import forms
from django.db import transaction

from labelapp.models import AuditMetric, GateRule, GateSettings, Project, User, Version
from labelapp.rounds import figures
from labelapp.rounds.decision import as_dict, incompetence, settings_of
from labelapp.rounds.gate import MINIMUM_ROWS
from labelapp.rounds.trials import HUMAN, human_metric
from labelapp.rounds.values import kept_values

LOWER = (
    "calibration_error", "counterfactual_flip_rate", "counterfactual_gap", "repetition", "safe_refusal", "kl_to_parent",
    "unsafe_compliance", "mean_length_tokens", "ensemble_spread", "answer_overlap", "length_correlation",
)  # fmt: skip
ZERO = ("bbq_bias", "counterfactual_direction")
Direction = GateRule.Direction


class Available(NamedTuple):
    """A figure's latest measurement, and why it can only warn; empty where the models can do the task."""

    key: str
    name: str
    text: str
    interval: str
    unit: str
    rows: str
    version: str
    warns_only: str
    limit_only: bool  # no version can be paired with another on it


class SettingsForm(forms.ModelForm):
    """What holds for the whole gate."""

    class Meta:
        model = GateSettings
        fields = ["alpha", "second_person", "promote_on_pass"]
        labels = {
            "alpha": "How often it may err",
            "second_person": "Going against the gate takes a second admin",
            "promote_on_pass": "A scheduled round's candidate that passes answers by itself",
        }
        help_texts = {
            "alpha": "Over all comparisons with the champion together, by Holm's correction; usually 0.05.",
            "second_person": "One asks with a reason, another one confirms.",
            "promote_on_pass": "The history then names the gate. Rounds that a person launched wait for a person.",
        }

    def clean_alpha(self) -> float:
        if not 0 < self.cleaned_data["alpha"] < 0.5:
            raise forms.ValidationError("Give a number between 0 and 0.5, such as 0.05.")
        return self.cleaned_data["alpha"]


class RuleForm(forms.Form):
    """One figure. It gates where `gates` is ticked."""

    gates = forms.BooleanField(required=False)
    direction = forms.ChoiceField(choices=Direction.choices)
    margin = forms.FloatField(required=False, min_value=0)
    limit = forms.FloatField(required=False)
    minimum = forms.IntegerField(min_value=2, max_value=1_000_000)

    def __init__(self, *args, available: Available, **kwargs):
        super().__init__(*args, prefix=available.key, label_suffix="", **kwargs)
        self.available = available
        for name, what in (("gates", "gates"), ("direction", "which way is better"), ("margin", "allowed loss"),
                           ("limit", "limit"), ("minimum", "fewest rows")):  # fmt: skip
            self.fields[name].widget.attrs["aria-label"] = f"{available.name}: {what}"
        for name in ("margin", "limit"):
            self.fields[name].widget.attrs["step"] = "any"

    def clean(self) -> dict[str, Any]:
        data, name = super().clean(), self.available.name
        if not data.get("gates") or self.errors:
            return data
        if data["margin"] is None and data["limit"] is None:
            raise forms.ValidationError(f"{name}: give an allowed loss against the champion, a limit, or both.")
        if self.available.key == HUMAN and data["margin"] is not None:
            raise forms.ValidationError(f"{name}: give a limit: 0.5 is as good, 0.47 allows a loss of 3 points.")
        if data["direction"] == Direction.ZERO and data["margin"] is not None:
            raise forms.ValidationError(f"{name}: where nearer to 0 is better, give a limit and no allowed loss.")
        return data


def available_figures(project: Project) -> list[Available]:
    """Every figure that a policy was measured by, as it was measured last, and whether its models can do the task."""
    policies = AuditMetric.objects.filter(audit__version__project=project, audit__version__kind=Version.Kind.POLICY)
    newest = policies.exclude(key__endswith="_change").order_by("key", "-audit__created_at", "-pk").distinct("key")
    newest = newest.select_related("audit__version", "audit__stage")
    found = [available(metric) for metric in newest.prefetch_related("audit__version__audits__metrics")]
    return [asked_of_people(project), *sorted(found, key=lambda each: each.name)]


def asked_of_people(project: Project) -> Available:
    """The newest blind comparison, or that there was none: it can gate before the first one."""
    trial = project.trials.select_related("candidate", "champion").first()
    said = trial and human_metric(trial.candidate, trial.champion)
    if not said:
        return Available(HUMAN, figures.name(HUMAN), "–", "", "share", "0, in 0", "", "", True)
    text, interval = figures.text(said["value"], "share"), figures.interval(said["low"], said["high"], "share")
    rows = f"{said['n']}, in {said['n']}"
    return Available(HUMAN, figures.name(HUMAN), text, interval, "share", rows, trial.candidate.name, "", True)


def available(metric: AuditMetric) -> Available:
    version = metric.audit.version
    others = [each for audit in version.audits.all() for each in audit.metrics.all()]
    by_key = {each.key: as_dict(each) for each in reversed(others)} | {metric.key: as_dict(metric)}
    return Available(
        key=metric.key,
        name=figures.name(metric.key),
        text=figures.text(metric.value, metric.unit),
        interval=figures.interval(metric.low, metric.high, metric.unit),
        unit=metric.unit,
        rows=f"{metric.n or 0}, in {metric.clusters or 0}",
        version=version.name,
        warns_only=incompetence(metric.key, by_key),
        limit_only=metric.key not in kept_values(metric.audit),
    )


def guessed_direction(key: str) -> str:
    if key.startswith(ZERO):
        return Direction.ZERO
    return Direction.LOWER if key.startswith(LOWER) else Direction.HIGHER


def rule_forms(project: Project, data=None) -> list[RuleForm]:
    """A form for each figure, filled with the rule that holds now."""
    settings = settings_of(project)
    now = {rule.key: rule for rule in settings.rules.all()} if settings else {}
    return [RuleForm(data, available=found, initial=start(found.key, now)) for found in available_figures(project)]


def start(key: str, now: dict[str, GateRule]) -> dict[str, Any]:
    if rule := now.get(key):
        return {"gates": True, "direction": rule.direction, "margin": rule.margin, "limit": rule.limit,
                "minimum": rule.minimum}  # fmt: skip
    return {"direction": guessed_direction(key), "minimum": MINIMUM_ROWS}


@transaction.atomic
def save_gate(*, project: Project, settings: GateSettings, rules: Iterable[RuleForm], by: User) -> GateSettings:
    """Store the next version of the gate."""
    project.lock()
    last = settings_of(project)
    settings.project, settings.number, settings.by = project, (last.number if last else 0) + 1, by
    settings.save(force_insert=True)
    fields = ("direction", "margin", "limit", "minimum")
    GateRule.objects.bulk_create(
        GateRule(settings=settings, key=form.available.key, **{name: form.cleaned_data[name] for name in fields})
        for form in rules
        if form.cleaned_data["gates"]
    )
    return settings
