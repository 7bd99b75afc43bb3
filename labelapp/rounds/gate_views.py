"""The pages of the gate: what it asks of a candidate, and the second person who goes against it."""

from django.contrib import messages
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect
from django.template.response import TemplateResponse
from django.views.decorators.http import require_http_methods, require_POST

from labelapp.accounts.permissions import project_page
from labelapp.models import GateOverride, GateSettings, Project
from labelapp.rounds.decision import settings_of
from labelapp.rounds.gate_forms import SettingsForm, rule_forms, save_gate
from labelapp.rounds.overrides import confirm_override, withdraw_override
from labelapp.rounds.promote import SwitchRefused, deployment_of


@require_http_methods(["GET", "POST"])
@project_page("manage")
def gate(request: HttpRequest, project: Project) -> HttpResponse:
    """Which figures gate, with what limits. Saving makes the next version of the gate."""
    now, data = settings_of(project), request.POST or None
    start = GateSettings() if now is None else GateSettings(
        alpha=now.alpha, second_person=now.second_person, promote_on_pass=now.promote_on_pass
    )  # fmt: skip
    form, rules = SettingsForm(data, instance=start, label_suffix=""), rule_forms(project, data)
    if request.method == "POST" and all([form.is_valid(), *(rule.is_valid() for rule in rules)]):
        saved = save_gate(project=project, settings=form.save(commit=False), rules=rules, by=request.user)
        messages.success(request, f"Saved as version {saved.number} of the gate: it judges every candidate now.")
        return redirect("gate", project.slug)
    refused = request.method == "POST"
    context = {
        "section": "versions",
        "form": form,
        "rules": rules,
        "now": now,
        "past": project.gate_settings.select_related("by").prefetch_related("rules").order_by("-number"),
    }
    return TemplateResponse(request, "versions/gate.html", context, status=422 if refused else 200)


@require_POST
@project_page("manage")
def confirm(request: HttpRequest, project: Project, override: int) -> HttpResponse:
    """Promote against the gate what another admin asked for."""
    found = override_or_404(project, override)
    seen = request.POST.get("seen_epoch", "")
    epoch = int(seen) if seen.isdecimal() else deployment_of(project).epoch
    try:
        done = confirm_override(override=found, by=request.user, seen_epoch=epoch)
    except SwitchRefused as error:
        messages.error(request, str(error))
        return redirect("version", project.slug, found.version.name)
    told = "answers now" if done.event else "is being loaded; it answers as soon as it can"
    messages.success(request, f"{found.version.name} {told}.")
    return redirect("versions", project.slug)


@require_POST
@project_page("manage")
def withdraw(request: HttpRequest, project: Project, override: int) -> HttpResponse:
    """Close a request to go against the gate."""
    found = override_or_404(project, override)
    if withdraw_override(override=found, by=request.user):
        messages.success(request, "The request was withdrawn; nothing has changed.")
    else:
        messages.error(request, "The request was answered already.")
    return redirect("version", project.slug, found.version.name)


def override_or_404(project: Project, override: int) -> GateOverride:
    return get_object_or_404(GateOverride.objects.select_related("version"), pk=override, version__project=project)
