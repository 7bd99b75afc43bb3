"""The page on which a project's API is explained, watched, and opened by keys."""

from django.contrib import messages
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect
from django.template.response import TemplateResponse
from django.utils import timezone
from django.views.decorators.http import require_GET, require_POST

from labelapp.accounts.keys import KeyNameRefused, create_key, revoke_key
from labelapp.accounts.permissions import may, project_page
from labelapp.models import ApiKey, Deployment, EngineVersion, Process, Project
from labelapp.policy import never_cache

SILENT_SECONDS = 20  # the engine reports every 5 s


@require_GET
@project_page("research")
def serving(request: HttpRequest, project: Project) -> HttpResponse:
    return TemplateResponse(request, "serving/serving.html", page_facts(request, project))


@require_GET
@project_page("research")
def state(request: HttpRequest, project: Project) -> HttpResponse:
    """The part of the page that changes by itself, asked for again while it is open."""
    return TemplateResponse(request, "serving/_state.html", engine_facts(project) | {"project": project})


@require_POST
@never_cache
@project_page("manage")
def add_key(request: HttpRequest, project: Project) -> HttpResponse:
    """Make a key and show its token on this answer alone; a reload asks before it makes another."""
    try:
        key, token = create_key(project=project, name=request.POST.get("name", ""), created_by=request.user)
    except KeyNameRefused as error:
        facts = page_facts(request, project) | {"refusal": str(error)}
        return TemplateResponse(request, "serving/serving.html", facts, status=422)
    facts = page_facts(request, project) | {"new_key": key, "token": token}
    return TemplateResponse(request, "serving/serving.html", facts)


@require_POST
@project_page("manage")
def revoke(request: HttpRequest, project: Project, key: int) -> HttpResponse:
    row = get_object_or_404(ApiKey, pk=key, project=project)
    revoke_key(key=row)
    messages.success(request, f"{row.name} opens nothing any more.")
    return redirect("serving", slug=project.slug)


def page_facts(request: HttpRequest, project: Project) -> dict:
    keys = project.api_keys.select_related("created_by")
    return engine_facts(project) | {
        "section": "serving",
        "base_url": request.build_absolute_uri("/v1"),
        "alias": alias_of(project),
        "keys": keys,
        "may_manage": may(request.role, "manage"),
    }


def alias_of(project: Project) -> str:
    return project.deployments.order_by("pk").values_list("alias", flat=True).first() or "policy"


def engine_facts(project: Project) -> dict:
    """What answers, what waits, what the engine holds of this project, and when the engine was last heard of."""
    deployments = Deployment.objects.filter(project=project).select_related("version__engine", "pending__engine")
    process = Process.objects.filter(kind="engine").order_by("-heartbeat_at").first()
    age = (timezone.now() - process.heartbeat_at).total_seconds() if process else None
    return {
        "deployments": deployments.order_by("alias"),
        "held": EngineVersion.objects.filter(version__project=project).select_related("version").order_by("pk"),
        "engine": process,
        "engine_age": age,
        "engine_is_silent": age is None or age > SILENT_SECONDS,
    }
