"""Changing many comparisons at once: review what would change, confirm, read what was done."""

from uuid import UUID, uuid4

from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect
from django.template.response import TemplateResponse
from django.utils.translation import gettext as _
from django.views.decorators.http import require_GET, require_POST

from labelapp.accounts.permissions import project_page
from labelapp.datasets.bulk import BulkRefused, effects, order_change
from labelapp.datasets.bulk_forms import OrderForm
from labelapp.datasets.filters import COUNTED, FilterForm
from labelapp.models import Project
from labelapp.policy import never_cache

LISTED = 50
MOST_PICKED = 1000


@never_cache
@require_POST
@project_page("manage")
def review(request: HttpRequest, project: Project) -> HttpResponse:
    """What the change would do. Nothing is changed yet."""
    try:
        return _review(request, project, picked_of(request, project))
    except BulkRefused as refusal:
        return _refused(request, project, refusal)


def picked_of(request: HttpRequest, project: Project) -> dict:
    """{"filter": ...} or {"ids": [...]}, from the list's form. Raises BulkRefused."""
    if request.POST.get("scope") == "all":
        form = FilterForm(request.POST, project=project)
        if not form.is_valid():
            raise BulkRefused(_("The filter is not one that we know. Start again from the list."))
        return {"filter": form.said()}
    ids = request.POST.getlist("id")
    if not ids or len(ids) > MOST_PICKED or not all(text.isdecimal() and len(text) < 18 for text in ids):
        raise BulkRefused(_("Pick one comparison at least, or choose all that match the filter."))
    return {"ids": sorted({int(text) for text in ids})}


def _review(request: HttpRequest, project: Project, picked: dict) -> HttpResponse:
    order = OrderForm(request.POST, project=project)
    context = {"section": "data", "order": order, "picked": picked, "submission_id": uuid4(), "counted": COUNTED}
    if order.is_valid():
        context["expected"], context["effects"] = effects(project, picked, order.order())
    context["kept"] = [(name, value) for name in request.POST for value in request.POST.getlist(name) if name in KEPT]
    return TemplateResponse(request, "datasets/bulk_review.html", context, status=422 if order.errors else 200)


def _refused(request: HttpRequest, project: Project, refusal: Exception) -> HttpResponse:
    context = {"section": "data", "refusal": refusal}
    return TemplateResponse(request, "datasets/bulk_refused.html", context, status=422)


@never_cache
@require_POST
@project_page("manage")
def change(request: HttpRequest, project: Project) -> HttpResponse:
    """Do what was confirmed, and show what came of it; large changes are done by a worker."""
    order = OrderForm(request.POST, project=project)
    try:
        picked = picked_of(request, project)
        if not order.is_valid():
            return _review(request, project, picked)
        done = order_change(
            project=project, by=request.user, picked=picked, order=order.order(),
            expected=whole(request.POST.get("expected", "")), submission=submission_of(request),
        )  # fmt: skip
    except BulkRefused as refusal:
        return _refused(request, project, refusal)
    return redirect("bulk_change", project.slug, done.pk)


def whole(text: str) -> int:
    if not text.isdecimal() or len(text) > 9:
        raise BulkRefused(_("The number that was confirmed is missing. Start again from the list."))
    return int(text)


def submission_of(request: HttpRequest) -> UUID:
    try:
        return UUID(request.POST.get("submission_id", ""))
    except ValueError as error:
        raise BulkRefused(_("The confirmation is incomplete. Start again from the list.")) from error


@never_cache
@require_GET
@project_page("manage")
def one_change(request: HttpRequest, project: Project, number: int) -> HttpResponse:
    """What was ordered, and what came of it."""
    found = get_object_or_404(project.bulk_changes.select_related("by"), pk=number)
    part = "datasets/_bulk_change.html" if request.htmx else "datasets/bulk_change.html"
    return TemplateResponse(request, part, {"section": "data", "change": found})


@never_cache
@require_GET
@project_page("manage")
def changes(request: HttpRequest, project: Project) -> HttpResponse:
    """The latest changes, newest first."""
    found = project.bulk_changes.select_related("by")[:LISTED]
    return TemplateResponse(request, "datasets/bulk_changes.html", {"section": "data", "changes": found})


KEPT = {"scope", "id", *FilterForm.base_fields, *OrderForm.base_fields}
