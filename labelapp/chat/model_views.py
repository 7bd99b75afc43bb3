"""The page on which admins say which models of others may answer in chats."""

from asgiref.sync import async_to_sync
from django.conf import settings
from django.contrib import messages
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect
from django.template.response import TemplateResponse
from django.utils.translation import gettext as _
from django.views.decorators.http import require_GET, require_POST

from labelapp.accounts.permissions import project_page
from labelapp.chat.draw import candidates
from labelapp.chat.model_actions import add_upstream, switch, try_upstream
from labelapp.chat.refusals import BadUpstream, ModelFailed
from labelapp.models import Project, UpstreamModel, Version

FIELDS = ("name", "base_url", "model", "key_variable")


@require_GET
@project_page("manage")
def models(request: HttpRequest, project: Project) -> HttpResponse:
    return TemplateResponse(request, "chat/models.html", page_facts(project))


@require_POST
@project_page("manage")
def add(request: HttpRequest, project: Project) -> HttpResponse:
    said = {name: request.POST.get(name, "") for name in FIELDS}
    try:
        row = add_upstream(project=project, by=request.user, **said)
    except BadUpstream as refusal:
        facts = page_facts(project) | {"refusal": refusal, "kept": said}
        return TemplateResponse(request, "chat/models.html", facts, status=refusal.status)
    messages.success(request, _("%(name)s may answer in chats. Test it below.") % {"name": row.name})
    return redirect("chat-models", slug=project.slug)


@require_POST
@project_page("manage")
def test(request: HttpRequest, project: Project, model: int) -> HttpResponse:
    """Ask it one tiny question and say what came back."""
    row = get_object_or_404(UpstreamModel, pk=model, project=project)
    try:
        said = async_to_sync(try_upstream)(row)
    except ModelFailed as failure:
        what = {"name": row.name, "why": failure.reason, "detail": failure}
        messages.error(request, _("%(name)s: %(why)s. %(detail)s") % what)
    else:
        messages.success(request, _("%(name)s answers: “%(said)s”") % {"name": row.name, "said": said})
    return redirect("chat-models", slug=project.slug)


@require_POST
@project_page("manage")
def turn_on_or_off(request: HttpRequest, project: Project, model: int) -> HttpResponse:
    row = get_object_or_404(UpstreamModel, pk=model, project=project)
    switch(upstream=row, on=request.POST.get("on") == "1")
    return redirect("chat-models", slug=project.slug)


def page_facts(project: Project) -> dict:
    held = [model for model in candidates(project) if isinstance(model, Version)]
    upstream = project.upstream_models.select_related("created_by")
    return {"section": "chat", "held": held, "upstream": upstream, "hosts": settings.UPSTREAM_HOSTS, "kept": {}}
