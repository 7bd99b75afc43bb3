"""The first pages a person sees."""

from django.contrib.auth.decorators import login_required
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.template.response import TemplateResponse

from labelapp.accounts.permissions import may, may_found
from labelapp.models import Membership


@login_required
def home(request: HttpRequest) -> HttpResponse:
    """My projects; with only one, straight to the work my role does there."""
    memberships = list(Membership.objects.of(request.user).select_related("project").order_by("project__name"))
    if len(memberships) == 1:
        only = memberships[0]
        target = "project" if may(only.role, "research") else "label"
        return redirect(target, slug=only.project.slug)
    context = {"memberships": memberships, "may_found": may_found(request.user)}
    return TemplateResponse(request, "projects/home.html", context)
