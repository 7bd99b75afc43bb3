"""The labeling of a project as its admin sees it."""

from django.http import HttpRequest, HttpResponse
from django.template.response import TemplateResponse
from django.views.decorators.http import require_GET

from labelapp.accounts.permissions import project_page
from labelapp.labeling.overview.figures import read_dashboard
from labelapp.labeling.quality.quiz import quiz_lacks_gold
from labelapp.models import Project
from labelapp.policy import never_cache


@never_cache
@require_GET
@project_page("research")
def dashboard(request: HttpRequest, project: Project) -> HttpResponse:
    """Throughput, what is left, people, skips, queue and cost; for htmx only the section that changes."""
    template = "labeling/_dashboard.html" if request.htmx else "labeling/dashboard.html"
    context = {"section": "labeling", "board": read_dashboard(project), "quiz_lacks_gold": quiz_lacks_gold(project)}
    return TemplateResponse(request, template, context)
