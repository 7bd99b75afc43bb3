"""The labeler's page. Each answer brings the next item in the same response."""

from uuid import uuid4

from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.template.response import TemplateResponse
from django.urls import reverse
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_http_methods, require_POST

from labelapp.accounts.permissions import project_page
from labelapp.labeling.actions import judge, undo_last
from labelapp.labeling.desk import open_desk
from labelapp.labeling.forms import AnswerForm, read_claim, sign_claim
from labelapp.labeling.queue import claim_slot, extend_lease
from labelapp.labeling.refusals import ForeignClaim, Refusal
from labelapp.models import Project, Slot


@never_cache
@require_http_methods(["GET", "HEAD", "POST"])
@project_page("label")
def label(request: HttpRequest, project: Project) -> HttpResponse:
    """GET hands out the next item; POST stores an answer and brings the item after it."""
    if request.method != "POST":
        return show_desk(request, project)
    form = AnswerForm(request.POST)
    try:
        claim = read_claim(request.POST.get("claim", ""), project=project, labeler=request.user)
        judgment = judge(labeler=request.user, **claim._asdict(), **form.said())
    except Refusal as refusal:
        return show_desk(request, project, refusal=refusal, kept=request.POST)
    return show_next(request, project, announce=f"Saved #{judgment.pk}.")


@never_cache
@require_POST
@project_page("label")
def undo(request: HttpRequest, project: Project) -> HttpResponse:
    """Withdraw my last judgment and bring its item back."""
    try:
        slot = undo_last(project=project, labeler=request.user)
    except Refusal as refusal:
        return show_desk(request, project, refusal=refusal)
    return show_next(request, project, announce="Undone. Judge it again.", slot=slot)


@never_cache
@require_POST
@project_page("label")
def heartbeat(request: HttpRequest, project: Project) -> HttpResponse:
    """204 while the item is still mine, 409 once it went to somebody else."""
    try:
        claim = read_claim(request.POST.get("claim", ""), project=project, labeler=request.user)
    except ForeignClaim as refusal:
        return HttpResponse(str(refusal), status=refusal.status, content_type="text/plain")
    held = extend_lease(slot_id=claim.slot_id, labeler=request.user, claim_token=claim.claim_token)
    return HttpResponse(status=204 if held else 409)


def show_next(request: HttpRequest, project: Project, *, announce: str, slot: Slot | None = None) -> HttpResponse:
    """The section for htmx; for everybody else a redirect, so that a reload does not submit again."""
    if request.htmx:
        return show_desk(request, project, announce=announce, slot=slot)
    return HttpResponseRedirect(reverse("label", args=[project.slug]), status=303)


def show_desk(
    request: HttpRequest,
    project: Project,
    *,
    slot: Slot | None = None,
    announce: str = "",
    refusal: Refusal | None = None,
    kept: dict | None = None,
) -> HttpResponse:
    """The page, or its one section for htmx. After a refusal the form keeps what was said about the same item."""
    slot = slot or claim_slot(project=project, labeler=request.user)
    desk = open_desk(project=project, labeler=request.user, slot=slot)
    context = {"desk": desk, "item": desk.item, "announce": announce, "refusal": refusal, "section": "label"}
    if desk.item:
        guideline_id = desk.guideline and desk.guideline["id"]
        context["claim"] = sign_claim(slot=slot, labeler=request.user, guideline_id=guideline_id)
        context["submission_id"] = uuid4()
        context["kept"] = kept if kept and kept.get("slot") == str(slot.pk) else None
    template = "labeling/_comparison.html" if request.htmx else "labeling/compare.html"
    response = TemplateResponse(request, template, context, status=refusal.status if refusal else 200)
    response["X-Section"] = "comparison"  # so that the script knows an answer of ours from a sign-in page
    return response
