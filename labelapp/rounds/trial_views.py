"""The pages of a blind comparison: what it would take, ordering it, and what people said."""

from django import forms
from django.contrib import messages
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect
from django.template.response import TemplateResponse
from django.views.decorators.http import require_http_methods, require_POST, require_safe

from labelapp.accounts.permissions import may, project_page
from labelapp.models import Project, Trial, Version
from labelapp.rounds import trial_orders, trials
from labelapp.rounds.actions import LaunchRefused
from labelapp.rounds.promote import deployment_of
from labelapp.rounds.trial_figures import drawing_of


class TrialForm(forms.Form):
    """What the comparison is to find out, and how the answers are sampled."""

    source = forms.ChoiceField(
        choices=[(trial_orders.HELD_OUT, "held out from training"), (trial_orders.FRESH, "fresh, never answered")],
        label="Prompts",
    )
    points = forms.FloatField(
        min_value=0.5, max_value=20, initial=3, label="Smallest difference to see, in points of the win rate"
    )
    alpha = forms.FloatField(
        min_value=0.001, max_value=0.2, initial=0.05, label="How often it may err where there is no difference"
    )
    power = forms.FloatField(min_value=0.5, max_value=0.99, initial=0.8, label="How often it must see the difference")
    temperature = forms.FloatField(min_value=0, max_value=5, initial=1.0)
    max_new_tokens = forms.IntegerField(min_value=1, max_value=4096, initial=96, label="Longest answer, tokens")
    first = forms.BooleanField(required=False, initial=True, label="Hand these out before other work")

    def asked(self) -> dict:
        """As trial_orders takes it: the difference as a share."""
        given = {name: self.cleaned_data[name] for name in ("source", "alpha", "power")}
        return given | {"difference": self.cleaned_data["points"] / 100}


@require_http_methods(["GET", "POST"])
@project_page("manage")
def trial_new(request: HttpRequest, project: Project, name: str) -> HttpResponse:
    """Say what a comparison of this version with the one that answers would take, and order it."""
    candidate = get_object_or_404(project.versions, name=name, kind=Version.Kind.POLICY)
    champion, refusal = deployment_of(project).version, ""
    initial = {name: field.initial for name, field in TrialForm.base_fields.items() if field.initial is not None}
    start = initial | {"source": trial_orders.HELD_OUT}
    form = TrialForm(request.POST if request.method == "POST" else start, label_suffix="")
    if form.is_valid() and "order" in request.POST:
        try:
            sampled = {name: form.cleaned_data[name] for name in ("temperature", "max_new_tokens", "first")}
            made = trial_orders.order_trial(
                project=project, candidate=candidate, by=request.user, **form.asked(), **sampled
            )
        except LaunchRefused as error:
            refusal = str(error)
        else:
            messages.success(request, "Ordered. The comparisons are in the queue once both versions have answered.")
            return redirect("trial", project.slug, made.pk)
    comparable = form.is_valid() and champion not in (None, candidate)
    context = {
        "section": "versions",
        "candidate": candidate,
        "champion": champion,
        "form": form,
        "estimate": comparable and trial_orders.estimate(
            project=project, candidate=candidate, champion=champion, **form.asked()
        ),
        "refusal": refusal,
    }  # fmt: skip
    status = 409 if refusal else 422 if form.errors else 200
    return TemplateResponse(request, "versions/trial_new.html", context, status=status)


@require_safe
@project_page("research")
def trial(request: HttpRequest, project: Project, number: int) -> HttpResponse:
    """What people said so far, and what it proves."""
    found = get_object_or_404(
        project.trials.select_related("candidate", "champion", "round", "batch", "ordered_by", "ended_by"), pk=number
    )
    results = trials.results_of(found)
    context = {
        "section": "versions",
        "trial": found,
        "standing": trials.standing_of(found, results),
        "made": found.round.comparisons.count(),
        "drawing": drawing_of(found, list(trials.steps_of(found, results))),
        "may_end": may(request.role, "manage") and not found.outcome,
    }
    return TemplateResponse(request, "versions/trial.html", context)


@require_POST
@project_page("manage")
def trial_end(request: HttpRequest, project: Project, number: int) -> HttpResponse:
    """End it now, undecided unless the judgments decide it."""
    found = get_object_or_404(project.trials, pk=number)
    standing = trials.standing_of(found)
    outcome = standing.decided or Trial.Outcome.UNDECIDED
    if trials.end(found, outcome=outcome, by=request.user, standing=standing):
        messages.success(request, "Ended; what nobody had begun is no longer handed out.")
    else:
        messages.error(request, "It had ended already.")
    return redirect("trial", project.slug, found.pk)
