"""A project at a glance."""

from django.http import HttpRequest, HttpResponse
from django.template.response import TemplateResponse
from django.views.decorators.http import require_GET

from labelapp.accounts.permissions import project_page
from labelapp.datasets.overview import gather, next_for, steps_of
from labelapp.models import Project


@require_GET
@project_page("research")
def project(request: HttpRequest, project: Project) -> HttpResponse:
    """The loop with its figures, what is next for this person, the latest rows, and the members."""
    facts = gather(project)
    upcoming = next_for(request.role, project, facts)
    context = {
        "section": "project",
        "facts": facts,
        "next": upcoming,
        "steps": steps_of(project, facts, upcoming.step),
        "members": project.memberships.select_related("user").order_by("role", "user__username"),
        "snapshots": project.snapshots.all()[:4],
        "rounds": project.rounds.select_related("snapshot")[:4],
        "guideline": project.guideline_versions.last(),
        "protocol": project.protocol_versions.last(),
    }
    return TemplateResponse(request, "projects/project.html", context)
