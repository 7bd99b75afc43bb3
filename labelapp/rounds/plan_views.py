"""What to label next: the project's sampling plans, and what their arms brought."""

from django import forms
from django.contrib import messages
from django.db.models import Count, Q
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect
from django.template.response import TemplateResponse
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy
from django.views.decorators.http import require_POST, require_safe

from labelapp.accounts.permissions import may, project_page
from labelapp.models import Comparison, Project, SamplingPlan
from labelapp.rounds.actions import LaunchRefused
from labelapp.rounds.arms import compare_arms, picked, told_by
from labelapp.rounds.plans import PlanRefused, eligible_prompts, judge_of, run_plan, sides_of


class PlanForm(forms.ModelForm):
    """One plan, as a person writes it."""

    class Meta:
        model = SamplingPlan
        fields = [
            "name", "first", "first_temperature", "second", "author", "second_temperature", "max_new_tokens",
            "comparisons", "signal", "candidates", "control_share",
        ]  # fmt: skip
        labels = {
            "name": gettext_lazy("Name"),
            "first": gettext_lazy("First side"),
            "first_temperature": gettext_lazy("Temperature of the first"),
            "second": gettext_lazy("Second side"),
            "author": gettext_lazy("Other model"),
            "second_temperature": gettext_lazy("Temperature of the second"),
            "max_new_tokens": gettext_lazy("Longest answer, tokens"),
            "comparisons": gettext_lazy("Comparisons"),
            "signal": gettext_lazy("Pick where"),
            "candidates": gettext_lazy("Candidates for each"),
            "control_share": gettext_lazy("Share picked by chance"),
        }
        help_texts = {
            "author": gettext_lazy("Its name, where the second side is another model whose answers were imported."),
            "control_share": gettext_lazy("0.05 to 1. Without a control arm nobody could tell whether picking helps."),
        }

    first = forms.ChoiceField(
        choices=[(side.value, side.label) for side in (SamplingPlan.Side.CHAMPION, SamplingPlan.Side.CANDIDATE)],
        label=gettext_lazy("First side"),
    )

    def __init__(self, *args, project: Project, **kwargs):
        super().__init__(*args, instance=SamplingPlan(project=project), label_suffix="", **kwargs)
        for name in ("first_temperature", "second_temperature"):
            self.fields[name].min_value, self.fields[name].max_value = 0, 5

    def clean(self) -> dict:
        given = super().clean()
        for name in ("first_temperature", "second_temperature"):
            if given.get(name) is not None and not 0 <= given[name] <= 5:
                self.add_error(name, _("A temperature is from 0 to 5."))
        if given.get("second") == SamplingPlan.Side.AUTHOR and not given.get("author"):
            self.add_error("author", _("Name the other model."))
        if given.get("second") != SamplingPlan.Side.AUTHOR:
            given["author"] = ""
        return given


@require_safe
@project_page("research")
def plans(request: HttpRequest, project: Project) -> HttpResponse:
    """Every plan with what it would do now, and how many judgments each arm has brought."""
    return plans_page(request, project, PlanForm(project=project))


def plans_page(request: HttpRequest, project: Project, form: PlanForm, *, status: int = 200) -> HttpResponse:
    rows = [(plan, *outlook(plan)) for plan in project.sampling_plans.select_related("project")]
    context = {"section": "versions", "rows": rows, "form": form, "arms": arms_of(project)}
    context |= {"told": told_by(project)}
    context |= {"may_manage": may(request.role, "manage")}
    return TemplateResponse(request, "rounds/plans.html", context, status=status)


def outlook(plan: SamplingPlan) -> tuple[str, str]:
    """(what running it would do, why it cannot run); one of them is empty."""
    try:
        sides = sides_of(plan)
        reward = judge_of(plan).name if plan.signal else ""
    except PlanRefused as refusal:
        return "", str(refusal)
    left = eligible_prompts(plan, sides).count()
    if not left:
        return "", _("No prompt is left for %s.") % sides.names
    words = {"sides": sides.names, "left": left, "reward": reward}
    if reward:
        return _("%(sides)s, picked by %(reward)s; %(left)d prompts are left.") % words, ""
    return _("%(sides)s; %(left)d prompts are left.") % words, ""


def arms_of(project: Project) -> list[dict]:
    """Comparisons and judgments of each arm of plans that pick."""
    standing = Q(judgments__replaced_by__isnull=True, judgments__withdrawn=False)
    rows = picked(project).values("origin").annotate(
        comparisons=Count("pk", distinct=True), judged=Count("judgments", filter=standing, distinct=True)
    )
    names = dict(Comparison.Origin.choices)
    return [row | {"name": names[row["origin"]]} for row in rows.order_by("origin")]


@require_POST
@project_page("manage")
def plan_add(request: HttpRequest, project: Project) -> HttpResponse:
    """Keep a plan; a refused form comes back with its reasons."""
    form = PlanForm(request.POST, project=project)
    form.instance.created_by = request.user
    if not form.is_valid():
        return plans_page(request, project, form, status=422)
    form.save()
    messages.success(request, _("The plan is kept."))
    return redirect("plans", project.slug)


@require_POST
@project_page("manage")
def plan_run(request: HttpRequest, project: Project, number: int) -> HttpResponse:
    """Queue the plan's sampling round and show it."""
    plan = get_object_or_404(project.sampling_plans, pk=number)
    try:
        round = run_plan(plan=plan, by=request.user)
    except LaunchRefused as refusal:
        messages.error(request, str(refusal))
        return redirect("plans", project.slug)
    return redirect("round", slug=project.slug, number=round.number)


@require_POST
@project_page("manage")
def plan_remove(request: HttpRequest, project: Project, number: int) -> HttpResponse:
    """Forget a plan. Its rounds and their comparisons stay."""
    get_object_or_404(project.sampling_plans, pk=number).delete()
    messages.success(request, _("The plan was removed; what it sampled stays."))
    return redirect("plans", project.slug)


@require_POST
@project_page("manage")
def arms_compare(request: HttpRequest, project: Project) -> HttpResponse:
    """Queue the round that trains a reward model on each arm, and show it."""
    try:
        round = compare_arms(project=project, by=request.user)
    except LaunchRefused as refusal:
        messages.error(request, str(refusal))
        return redirect("plans", project.slug)
    return redirect("round", slug=project.slug, number=round.number)
