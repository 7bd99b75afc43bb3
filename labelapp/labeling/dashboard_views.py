"""The labeling of a project as its admin sees it."""

from django.http import HttpRequest, HttpResponse
from django.template.response import TemplateResponse
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_GET

from labelapp.accounts.permissions import project_page
from labelapp.labeling.dashboard import read_dashboard
from labelapp.models import Project


@never_cache
@require_GET
@project_page("research")
def dashboard(request: HttpRequest, project: Project) -> HttpResponse:
    """Throughput, what is left, people, skips, queue and cost; for htmx only the section that changes."""
    template = "labeling/_dashboard.html" if request.htmx else "labeling/dashboard.html"
    return TemplateResponse(request, template, {"section": "labeling", "board": read_dashboard(project)})
