"""The page of the machines' time: prices, the month's budget, and everything that was booked."""

from django.contrib import messages
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.template.response import TemplateResponse
from django.views.decorators.http import require_http_methods

from labelapp.accounts.permissions import project_page, require_project
from labelapp.models import Project
from labelapp.rounds.compute import bookings_of, month_of
from labelapp.rounds.forms import ComputeForm


@require_http_methods(["GET", "POST"])
@project_page("research")
def compute(request: HttpRequest, project: Project) -> HttpResponse:
    """Researchers read what was spent; an admin sets prices and budgets."""
    form = ComputeForm(request.POST or None, instance=Project.objects.get(pk=project.pk))
    if request.method == "POST":
        require_project(request.user, project.slug, "manage")
        if form.is_valid():
            form.instance.save(update_fields=form.Meta.fields)
            messages.success(request, "Saved. It holds from the next launch on; what is booked stays as it was.")
            return redirect("rounds_compute", project.slug)
    context = {
        "form": form,
        "month": month_of(project),
        "bookings": bookings_of(project),
        "section": "rounds",
    }
    return TemplateResponse(request, "rounds/compute.html", context, status=422 if form.errors else 200)
