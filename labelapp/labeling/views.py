"""The labeler's page. Each answer brings the next item in the same response."""

from collections.abc import Sequence
from uuid import uuid4

from django.contrib import messages
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.middleware.csrf import get_token
from django.template.response import TemplateResponse
from django.urls import reverse
from django.utils.translation import gettext as _
from django.views.decorators.http import require_http_methods, require_POST

from labelapp.labeling.actions import judge, protocol_of, undo_last
from labelapp.labeling.claims import claim_of, read_claim, sign_claim
from labelapp.labeling.consent import labeler_page
from labelapp.labeling.desk import open_desk
from labelapp.labeling.drafts import save_draft
from labelapp.labeling.forms import AnswerForm, read_draft
from labelapp.labeling.guidelines import news_of
from labelapp.labeling.quality.gold import Outcome, as_html
from labelapp.labeling.queue import claiming, extend_lease
from labelapp.labeling.refusals import Refusal
from labelapp.labeling.section import TEMPLATE, section_of
from labelapp.labeling.skips import skip_item
from labelapp.models import Membership, Project, Skip, Slot
from labelapp.policy import never_cache


@never_cache
@require_http_methods(["GET", "HEAD", "POST"])
@labeler_page
def label(request: HttpRequest, project: Project) -> HttpResponse:
    """GET hands out the next item; POST stores an answer and brings the item after it, in one transaction."""
    if request.method != "POST":
        return show_desk(request, project, holding=holding_of(request.GET))
    try:
        return claiming(lambda: store_answer(request, project))
    except Refusal as refusal:
        holding = holding_of(request.POST)
        return show_desk(request, project, refusal=refusal, kept=request.POST, holding=holding)


def store_answer(request: HttpRequest, project: Project) -> HttpResponse:
    claim = read_claim(request.POST.get("claim", ""), project=project, labeler=request.user)
    said = AnswerForm(request.POST).said(protocol_of(claim.protocol_id), len(claim.display_order))
    judgment = judge(labeler=request.user, claim=claim, project=project, **said)
    holding = holding_of(request.POST)
    outcome = getattr(judgment, "outcome", None)
    said = {"announce": _("Saved #%s.") % judgment.pk, "saved": judgment.pk, "outcome": outcome}
    return show_next(request, project, holding=holding, **said)


@never_cache
@require_POST
@labeler_page
def undo(request: HttpRequest, project: Project) -> HttpResponse:
    """Withdraw my last judgment and bring its item back."""
    try:
        slot = undo_last(project=project, labeler=request.user)
    except Refusal as refusal:
        return show_desk(request, project, refusal=refusal)
    return show_next(request, project, announce=_("Undone. Judge it again."), slot=slot)


@never_cache
@require_POST
@labeler_page
def skip(request: HttpRequest, project: Project) -> HttpResponse:
    """Give the item back with a reason, and bring another."""
    try:
        claim = read_claim(request.POST.get("claim", ""), project=project, labeler=request.user)
        said = {"reason": request.POST.get("reason", ""), "comment": request.POST.get("comment", "")[:2000]}
        skip_item(project=project, claim=claim, labeler=request.user, **said)
    except Refusal as refusal:
        return show_desk(request, project, refusal=refusal)
    holding = holding_of(request.POST)
    return show_next(request, project, announce=_("Skipped. You will not see it again."), holding=holding)


@never_cache
@require_POST
@labeler_page
def draft(request: HttpRequest, project: Project) -> HttpResponse:
    """Keep an unfinished answer: 204, or 409 where a newer one or the answer is there already."""
    try:
        claim = read_claim(request.POST.get("claim", ""), project=project, labeler=request.user)
        body, revision = read_draft(request.POST.get("body", "")), request.POST.get("revision", "")
        if not revision.isdecimal() or len(revision) > 18:
            return HttpResponse("revision must be a whole number", status=422, content_type="text/plain")
        kept = save_draft(claim=claim, labeler=request.user, revision=int(revision), body=body)
    except Refusal as refusal:
        return HttpResponse(str(refusal), status=refusal.status, content_type="text/plain")
    return HttpResponse(status=204 if kept else 409)


@never_cache
@require_POST
@labeler_page
def heartbeat(request: HttpRequest, project: Project) -> HttpResponse:
    """204 while the item is still mine, 409 once it went to somebody else."""
    try:
        claim = read_claim(request.POST.get("claim", ""), project=project, labeler=request.user)
    except Refusal as refusal:
        return HttpResponse(str(refusal), status=refusal.status, content_type="text/plain")
    held = extend_lease(slot_id=claim.slot_id, labeler=request.user, claim_token=claim.claim_token)
    return HttpResponse(status=204 if held else 409)


def holding_of(data) -> list[int]:
    """Ids of slots that the page has before it already; what is not an id is not held."""
    return [int(text) for text in data.get("holding", "").split(",") if text.isdecimal() and len(text) < 18][:5]


def show_next(
    request: HttpRequest,
    project: Project,
    *,
    announce: str,
    saved: int | None = None,
    slot: Slot | None = None,
    holding: Sequence[int] = (),
    outcome: Outcome | None = None,
) -> HttpResponse:
    """The section for htmx; for everybody else a redirect, so that a reload does not submit again."""
    if request.htmx:
        said = {"announce": announce, "saved": saved, "outcome": outcome}
        return show_desk(request, project, slot=slot, holding=holding, **said)
    if outcome:
        messages.info(request, as_html(outcome), extra_tags="told")
    return HttpResponseRedirect(reverse("label", args=[project.slug]), status=303)


def show_desk(
    request: HttpRequest,
    project: Project,
    *,
    slot: Slot | None = None,
    holding: Sequence[int] = (),
    announce: str = "",
    saved: int | None = None,
    refusal: Refusal | None = None,
    kept: dict | None = None,
    outcome: Outcome | None = None,
) -> HttpResponse:
    """The page, or its one section for htmx. After a refusal the form keeps what was said about the same item."""
    desk = open_desk(project=project, labeler=request.user, slot=slot, holding=holding)
    context = {"desk": desk, "item": desk.item, "announce": announce, "refusal": refusal, "section": "label"}
    context["outcome"] = outcome and as_html(outcome)
    context["skip_reasons"] = Skip.Reason.choices
    htmx = bool(request.htmx)  # which looks it up each time
    context["csrf_token"] = token_of(request, htmx)
    context |= {"cap": request.membership.cap, "news": news_of(request.membership, desk.guideline)}
    if item := desk.item:
        context["hidden"] = {
            "claim": signed(request, project, item, desk.guideline),
            "slot": item.slot.pk,
            "submission_id": uuid4(),
            "active_seconds": "",
        }
        context["kept"] = kept if kept and kept.get("slot") == str(item.slot.pk) else item.draft
    section = section_of(context, project) if htmx else None
    if section is None:
        template = TEMPLATE if htmx else "labeling/compare.html"
        response = TemplateResponse(request, template, context, status=refusal.status if refusal else 200)
    else:
        response = HttpResponse(section)
    response["X-Section"] = "comparison"  # so that the script knows an answer of ours from a sign-in page,
    response["X-Labeler"] = str(request.user.pk)  # and whose session it is that sends its answers
    if saved:
        response["X-Saved"] = str(saved)
    return response


def token_of(request: HttpRequest, htmx: bool) -> str:
    """One token for all forms; the context processor makes each its own. htmx gets the one again that it sent."""
    return (htmx and request.POST.get("csrfmiddlewaretoken")) or get_token(request)


def signed(request: HttpRequest, project: Project, item, guideline: dict | None) -> str:
    """The claim of what is shown, for the form."""
    membership: Membership = request.membership
    shown = {"guideline_id": guideline and guideline["id"], "consent_id": membership.consent_id}
    claim = claim_of(item.slot, protocol_id=item.protocol_id, **shown)
    return sign_claim(claim, project=project, labeler=request.user)
