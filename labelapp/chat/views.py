"""The labeler's chat page. Each step posts, and brings the page's one section as it is then."""

from uuid import UUID, uuid4

from asgiref.sync import async_to_sync
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.shortcuts import get_object_or_404
from django.template.response import TemplateResponse
from django.urls import reverse
from django.utils.translation import gettext as _
from django.views.decorators.http import require_http_methods, require_POST

from labelapp.accounts.permissions import may, project_page
from labelapp.chat import actions
from labelapp.chat.page import read_page, read_past
from labelapp.chat.refusals import BadPrompt, NotShown
from labelapp.chat.run import run_to_end
from labelapp.chat.vote import vote
from labelapp.labeling.actions import protocol_of
from labelapp.labeling.consent import labeler_page
from labelapp.labeling.forms import AnswerForm
from labelapp.labeling.refusals import Refusal
from labelapp.models import ChatTurn, Conversation, Project
from labelapp.policy import never_cache

LONGEST_NUMBER = 8  # digits


@never_cache
@require_http_methods(["GET", "HEAD"])
@labeler_page
def chat(request: HttpRequest, project: Project) -> HttpResponse:
    """The open conversation, or the place to begin one."""
    return show(request, project)


@never_cache
@require_POST
@labeler_page
def ask(request: HttpRequest, project: Project) -> HttpResponse:
    """Send a prompt. With script the answers stream; without, the page waits for them."""
    try:
        key = read_uuid(request.POST.get("key", ""))
        turn = actions.start_turn(membership=request.membership, key=key, text=request.POST.get("prompt", ""))
    except Refusal as refusal:
        return show(request, project, refusal=refusal, kept=request.POST)
    return after_asking(request, project, turn)


@never_cache
@require_POST
@labeler_page
def again(request: HttpRequest, project: Project, turn: int) -> HttpResponse:
    """Ask other models where a turn has failed."""
    own(request, project, turn)
    try:
        row = actions.try_again(turn_id=turn, labeler=request.user)
    except Refusal as refusal:
        return show(request, project, refusal=refusal)
    return after_asking(request, project, row)


@never_cache
@require_POST
@labeler_page
def judge(request: HttpRequest, project: Project, turn: int) -> HttpResponse:
    """Store the vote on a turn's answers, as far as they had been seen."""
    row = own(request, project, turn)
    try:
        said = read_vote(request, row)
        judged = vote(turn_id=turn, membership=request.membership, **said)
    except Refusal as refusal:
        return show(request, project, refusal=refusal, kept=request.POST)
    return show_next(request, project, announce=_("Saved #%(id)d.") % {"id": judged.judgment_id})


@never_cache
@require_POST
@labeler_page
def go_on(request: HttpRequest, project: Project, turn: int) -> HttpResponse:
    """Choose the answer that the conversation continues with, after a tie or where all were bad."""
    own(request, project, turn)
    place = request.POST.get("place", "")
    try:
        actions.go_on(turn_id=turn, labeler=request.user, place=int(place) if is_number(place) else -1)
    except Refusal as refusal:
        return show(request, project, refusal=refusal)
    return show_next(request, project)


@never_cache
@require_POST
@project_page("label")
def end(request: HttpRequest, project: Project, conversation: int) -> HttpResponse:
    """End the conversation and show it with the models' names."""
    row = get_object_or_404(Conversation, pk=conversation, project=project, labeler=request.user)
    actions.end(conversation_id=row.pk, labeler=request.user)
    response = HttpResponseRedirect(reverse("chat-past", args=[project.slug, row.pk]), status=303)
    if request.htmx:  # it would follow by itself, and put a page where a section belongs
        response = HttpResponse(headers={"HX-Redirect": response.url})
    return response


@never_cache
@require_http_methods(["GET", "HEAD"])
@project_page("label")
def past(request: HttpRequest, project: Project, conversation: int) -> HttpResponse:
    """A conversation of mine that has ended: what was said, what I chose, and which models answered."""
    mine = Conversation.objects.filter(project=project, labeler=request.user, ended_at__isnull=False)
    row = get_object_or_404(mine, pk=conversation)
    context = {"section": "chat", "conversation": row, "turns": read_past(row)}
    return TemplateResponse(request, "chat/past.html", context)


def own(request: HttpRequest, project: Project, turn: int) -> ChatTurn:
    """The turn, if it is of this person and in this project. Raises Http404."""
    return get_object_or_404(ChatTurn, pk=turn, labeler=request.user, conversation__project=project)


def read_uuid(text: str) -> UUID:
    try:
        return UUID(text)
    except ValueError:
        raise BadPrompt(_("This form has lost its key. Reload the page and send the prompt again.")) from None


def is_number(text: str) -> bool:
    return text.isascii() and text.isdigit() and len(text) <= LONGEST_NUMBER


def read_vote(request: HttpRequest, turn: ChatTurn) -> dict:
    """submission_id, answer, active_seconds and seen characters. Raises NotAnAnswer and NotShown."""
    size = turn.sides.count()
    said = AnswerForm(request.POST).said(protocol_of(turn.protocol_id), size)
    seen = [request.POST.get(f"seen_{place}", "") for place in range(size)]
    if not all(map(is_number, seen)):
        raise NotShown(_("It is not known how much of the answers you saw. Reload the page and judge again."))
    return said | {"seen": list(map(int, seen))}


def after_asking(request: HttpRequest, project: Project, turn: ChatTurn) -> HttpResponse:
    if not request.htmx:
        async_to_sync(run_to_end)(turn.pk)
    return show_next(request, project, announce=_("Asked. The answers are being written."))


def show_next(request: HttpRequest, project: Project, *, announce: str = "") -> HttpResponse:
    """The section for htmx; for everybody else a redirect, so that a reload does not send again."""
    if request.htmx:
        return show(request, project, announce=announce)
    return HttpResponseRedirect(reverse("chat", args=[project.slug]), status=303)


def show(
    request: HttpRequest,
    project: Project,
    *,
    announce: str = "",
    refusal: Refusal | None = None,
    kept: dict | None = None,
) -> HttpResponse:
    """The page, or its one section for htmx. After a refusal the forms keep what was written."""
    context = read_page(project, request.user, kept or {})
    context |= {"announce": announce, "refusal": refusal, "key": uuid4()}
    context["may_manage"] = may(request.role, "manage")
    template = "chat/_chat.html" if request.htmx else "chat/chat.html"
    response = TemplateResponse(request, template, context, status=refusal.status if refusal else 200)
    response["X-Section"] = "chat"
    return response
