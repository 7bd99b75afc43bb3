"""Pages of the versions, and of the alias that points at one of them."""

import hashlib
import json

from django import forms
from django.contrib import messages
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect
from django.template.response import TemplateResponse
from django.utils import timezone
from django.views.decorators.http import require_http_methods, require_POST, require_safe

from labelapp.accounts.permissions import may, project_page
from labelapp.models import Audit, Deployment, EngineVersion, Project, Version
from labelapp.rounds import promote as switches
from labelapp.rounds.actions import LaunchRefused
from labelapp.rounds.decision import Decision, decide
from labelapp.rounds.gate_figures import rows_of
from labelapp.rounds.overrides import ask_override, open_overrides
from labelapp.rounds.sampling import NothingPromoted, fresh_prompts, rivals_of, sample_comparisons
from labelapp.rounds.version_figures import sides_of, split_figures, version_rows
from labelapp.storage import file_if_at_hand


class SwitchForm(forms.Form):
    """What a person confirms: the epoch they have seen, and why."""

    seen_epoch = forms.IntegerField(min_value=0, widget=forms.HiddenInput)
    reason = forms.CharField(max_length=2000, required=False, widget=forms.Textarea(attrs={"rows": 3}))


class SampleForm(forms.Form):
    """How many prompts to answer, and how freely."""

    prompts = forms.IntegerField(min_value=1, max_value=10_000, initial=20)
    temperature = forms.FloatField(min_value=0, max_value=5, initial=1.0)
    max_new_tokens = forms.IntegerField(min_value=1, max_value=4096, initial=96)


@require_safe
@project_page("research")
def versions(request: HttpRequest, project: Project) -> HttpResponse:
    """Every version with its headline figures, the alias and its history, and sampling new comparisons."""
    rows = version_rows(project)
    context = {"section": "versions", "rows": rows, **alias_facts(request, project), **sampling_facts(project)}
    return TemplateResponse(request, "versions/versions.html", context)


@require_safe
@project_page("research")
def deployment(request: HttpRequest, project: Project) -> HttpResponse:
    """The section about the alias alone, asked for every second while a version loads; at its end the page reloads."""
    facts = alias_facts(request, project)
    response = TemplateResponse(request, "versions/_deployment.html", facts)
    if not facts["deployment"].pending:
        response.headers["HX-Refresh"] = "true"
    return response


@require_safe
@project_page("research")
def version(request: HttpRequest, project: Project, name: str) -> HttpResponse:
    """One version: where it comes from, what came of it, and all that was measured."""
    found = version_or_404(project, name)
    decision = decide(found)
    audits = [(audit, *split_figures(audit), sides_of(audit)) for audit in found.audits.select_related("stage__round")]
    context = {
        "section": "versions",
        "version": found,
        "decision": decision,
        "gate_rows": rows_of(decision),
        "override": open_overrides().filter(version=found).select_related("asked_by", "deployment").first(),
        "trials": found.trials.select_related("champion"),
        "audits": audits,
        "card": json.dumps(found.card, indent=2, ensure_ascii=False),
        "children": found.children.order_by("created_at"),
        "siblings": found.round.versions.exclude(pk=found.pk) if found.round else [],
        "epochs": found.deployment_events.select_related("deployment", "by"),
        "is_loaded": switches.is_loaded(found),
        "may_promote": may(request.role, "manage") and found.kind == Version.Kind.POLICY,
    }
    return TemplateResponse(request, "versions/version.html", context)


@require_http_methods(["GET", "POST"])
@project_page("manage")
def promote(request: HttpRequest, project: Project, name: str) -> HttpResponse:
    """Ask, with the gate's verdict in view, and then point the alias at this version."""
    return confirm_switch(request, project, version_or_404(project, name), action="promote")


@require_http_methods(["GET", "POST"])
@project_page("manage")
def rollback(request: HttpRequest, project: Project) -> HttpResponse:
    """Ask, and then point the alias back at the version before."""
    target = switches.rollback_target(switches.deployment_of(project))
    if target is None:
        messages.error(request, "There is no earlier version to roll back to.")
        return redirect("versions", slug=project.slug)
    return confirm_switch(request, project, target, action="rollback")


def confirm_switch(request: HttpRequest, project: Project, target: Version, *, action: str) -> HttpResponse:
    """The confirmation of a switch; a refused one shows the sentence and what is true now, with status 409."""
    form, refusal = SwitchForm(request.POST if request.method == "POST" else None), ""
    decision = decide(target)
    if request.method == "POST" and form.is_valid():
        try:
            if action == "promote" and needs_second(decision):
                reason = form.cleaned_data["reason"]
                ask_override(
                    deployment=switches.deployment_of(project), version=target, by=request.user, reason=reason
                )
                messages.success(request, "Another admin must confirm it now, on this page.")
                return redirect("version", project.slug, target.name)
            done = carry_out(action, project, target, by=request.user, **form.cleaned_data)
        except switches.SwitchRefused as error:
            refusal = str(error)
        else:
            messages.success(request, sentence_about(done, target))
            return redirect("versions", slug=project.slug)
    context = {
        "section": "versions",
        "version": target,
        "action": action,
        "deployment": switches.deployment_of(project),
        "decision": decision,
        "gate_rows": rows_of(decision),
        "needs_reason": action == "promote" and decision.verdict != Audit.Verdict.PASS,
        "needs_second": action == "promote" and needs_second(decision),
        "load_seconds": usual_load_seconds(project),
        "is_loaded": switches.is_loaded(target),
        "reason": form["reason"].value() or "",
        "refusal": refusal or first_error(form),
    }
    return TemplateResponse(request, "versions/confirm.html", context, status=409 if context["refusal"] else 200)


def needs_second(decision: Decision) -> bool:
    """Whether going against the gate takes another admin."""
    return bool(decision.settings and decision.settings.second_person and decision.verdict != Audit.Verdict.PASS)


def usual_load_seconds(project: Project) -> float | None:
    """How long the engine took to load the project's last version; None where it has loaded none."""
    loaded = EngineVersion.objects.filter(version__project=project, load_seconds__isnull=False)
    return loaded.order_by("-updated_at").values_list("load_seconds", flat=True).first()


def carry_out(action: str, project: Project, target: Version, **how) -> switches.Promotion:
    deployment = switches.deployment_of(project)
    if action == "rollback":
        return switches.rollback(deployment=deployment, **how)
    return switches.promote(deployment=deployment, version=target, **how)


def sentence_about(done: switches.Promotion, target: Version) -> str:
    alias = done.deployment.alias
    if done.event:
        return f"{alias} answers from {done.event.version.name} since epoch {done.event.epoch}."
    return f"{target.name} is being loaded; {alias} switches to it as soon as it can answer."


def first_error(form: forms.Form) -> str:
    if not form.is_bound or form.is_valid():
        return ""
    field, errors = next(iter(form.errors.items()))
    return f"{field.replace('_', ' ').capitalize()}: {errors[0]}"


@require_POST
@project_page("manage")
def cancel_switch(request: HttpRequest, project: Project) -> HttpResponse:
    """Give up a switch that waits for the engine."""
    if switches.cancel_pending(deployment=switches.deployment_of(project)):
        messages.success(request, "The switch was cancelled; nothing has changed.")
    else:
        messages.error(request, "No switch is waiting: it has happened, or was cancelled.")
    return redirect("versions", slug=project.slug)


@require_POST
@project_page("manage")
def sample(request: HttpRequest, project: Project) -> HttpResponse:
    """Queue a sampling round and show it."""
    form = SampleForm(request.POST)
    try:
        if not form.is_valid():
            raise LaunchRefused(first_error(form))
        round = sample_comparisons(project=project, by=request.user, **form.cleaned_data)
    except LaunchRefused as error:
        messages.error(request, str(error))
        return redirect("versions", slug=project.slug)
    return redirect("round", slug=project.slug, number=round.number)


@require_safe
@project_page("research")
def audit_result(request: HttpRequest, project: Project, audit: int) -> HttpResponse:
    """The very result.json that an audit cites, if its bytes are still the same."""
    found = get_object_or_404(Audit, pk=audit, version__project=project)
    try:
        body = file_if_at_hand(found.result_path).read_bytes()
    except OSError as error:
        raise Http404("the file of this audit is gone") from error
    if (digest := hashlib.sha256(body).hexdigest()) != found.result_sha256:
        text = f"The file was changed: it has SHA-256 {digest}, the audit cites {found.result_sha256}.\n"
        return HttpResponse(text, status=409, content_type="text/plain")
    return HttpResponse(body, content_type="application/json", headers={"X-Content-SHA256": digest})


def version_or_404(project: Project, name: str) -> Version:
    return get_object_or_404(project.versions.select_related("parent", "round", "snapshot"), name=name)


def alias_facts(request: HttpRequest, project: Project) -> dict:
    """What the section about the alias shows."""
    deployment = switches.deployment_of(project)
    row = Deployment.objects.select_related("version", "pending", "pending_by").get(pk=deployment.pk)
    waited = (timezone.now() - row.pending_since).total_seconds() if row.pending else 0
    return {
        "deployment": row,
        "history": row.events.select_related("version", "previous", "by", "audit", "override__asked_by")[:50],
        "rollback_target": switches.rollback_target(row),
        "waited": max(0, round(waited)),
        "pending_engine": getattr(row.pending, "engine", None),
        "may_switch": may(request.role, "manage"),
    }


def sampling_facts(project: Project) -> dict:
    """What the section about sampling shows; no rivals where nothing is promoted."""
    try:
        rivals = rivals_of(project)
    except NothingPromoted:
        return {"rivals": None, "sample_form": None, "fresh": 0}
    return {"rivals": rivals, "sample_form": SampleForm(), "fresh": fresh_prompts(project, rivals).count()}
