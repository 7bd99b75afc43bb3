"""Pages around the work: consent, guidelines, the last 20 judgments, the summary of a sitting."""

from uuid import uuid4

from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect
from django.template.response import TemplateResponse
from django.urls import reverse
from django.utils.translation import gettext as _
from django.views.decorators.http import require_http_methods, require_POST, require_safe

from labelapp.accounts.permissions import project_page
from labelapp.labeling.actions import protocol_of, revisable, revise
from labelapp.labeling.consent import accept_consent, labeler_page
from labelapp.labeling.desk import Item, make_item
from labelapp.labeling.forms import AnswerForm, fields_of
from labelapp.labeling.guidelines import mark_seen, versions_of
from labelapp.labeling.refusals import Refusal
from labelapp.labeling.reviews.figures import latest_reviews
from labelapp.labeling.summary import summary_of
from labelapp.labeling.text.render import render_markdown
from labelapp.labeling.words import own_words, said_of
from labelapp.models import Judgment, Project, Slot
from labelapp.policy import never_cache


@never_cache
@require_http_methods(["GET", "HEAD", "POST"])
@project_page("label")
def consent(request: HttpRequest, project: Project) -> HttpResponse:
    """What a labeler agrees to before any work; a POST with the tick is the yes to the text that was shown."""
    version = project.consent_version
    if version is None:
        return _to("label", project)
    problem = ""
    if request.method == "POST":
        if request.POST.get("version") != str(version.pk):
            problem = _("The text changed while you read it. This is the new one.")
        elif request.POST.get("accept") != "yes":
            problem = _("Tick the box if you agree. Without it, no items are handed out.")
        else:
            accept_consent(membership=request.membership, version=version)
            return _to("label", project)
    context = {"version": version, "html": render_markdown(version.text), "problem": problem, "section": "label"}
    return TemplateResponse(request, "labeling/consent.html", context, status=422 if problem else 200)


@never_cache
@require_safe
@project_page("label")
def guidelines(request: HttpRequest, project: Project) -> HttpResponse:
    """The guidelines in force and all before them, with what changed."""
    versions = versions_of(project)
    for version in versions:
        version.html = render_markdown(version.text)
    return TemplateResponse(request, "labeling/guidelines.html", {"versions": versions, "section": "label"})


@never_cache
@require_POST
@labeler_page
def guidelines_seen(request: HttpRequest, project: Project) -> HttpResponse:
    """Note that a version was read."""
    number = request.POST.get("number", "")
    if not number.isdecimal() or len(number) > 9:
        return HttpResponse(_("number must be that of a version"), status=422, content_type="text/plain")
    mark_seen(membership=request.membership, number=int(number))
    if request.htmx:
        return HttpResponse(headers={"X-Section": "guidelines"})
    return _to("label", project)


@never_cache
@require_safe
@labeler_page
def mine(request: HttpRequest, project: Project) -> HttpResponse:
    """My last judgments in words, each with a way to change it."""
    return show_mine(request, project)


def show_mine(request: HttpRequest, project: Project, refusal: Refusal | None = None) -> HttpResponse:
    rows = revisable(project=project, labeler=request.user)
    for row in rows:
        row.said = own_words(said_of(row), protocol_of(row.protocol_id))
    reviews = latest_reviews(project, labeler=request.user)
    context = {"rows": rows, "refusal": refusal, "reviews": reviews, "section": "label"}
    return TemplateResponse(request, "labeling/mine.html", context, status=refusal.status if refusal else 200)


@never_cache
@require_http_methods(["GET", "HEAD", "POST"])
@labeler_page
def change(request: HttpRequest, project: Project, judgment_id: int) -> HttpResponse:
    """One of my last judgments with its item as it was shown; a POST stores the new answer in its place."""
    rows = {row.pk: row for row in revisable(project=project, labeler=request.user)}
    if request.method == "POST":
        return store_change(request, project, judgment_id, rows.get(judgment_id))
    if judgment_id not in rows:
        raise Http404("not among the last judgments of this person")
    return show_change(request, rows[judgment_id], kept=fields_of(said_of(rows[judgment_id])))


def store_change(request: HttpRequest, project: Project, judgment_id: int, row: Judgment | None) -> HttpResponse:
    """A replay comes after its judgment was replaced: what was asked is then read from the judgment itself."""
    asked = row or Judgment.objects.filter(pk=judgment_id, labeler=request.user, comparison__project=project).first()
    if asked is None:
        raise Http404("not a judgment of this person")
    try:
        said = AnswerForm(request.POST).said(protocol_of(asked.protocol_id), len(asked.display_order))
        about = {"submission_id": said["submission_id"], "answer": said["answer"]}
        revise(project=project, labeler=request.user, judgment_id=judgment_id, **about)
    except Refusal as refusal:
        if row is None:
            return show_mine(request, project, refusal)
        return show_change(request, row, kept=request.POST, refusal=refusal)
    return _to("label_mine", project)


def show_change(request: HttpRequest, row: Judgment, *, kept, refusal: Refusal | None = None) -> HttpResponse:
    context = {"judgment": row, "item": item_of(row), "kept": kept, "refusal": refusal, "section": "label"}
    context |= {"hidden": {"submission_id": uuid4(), "active_seconds": ""}, "action": request.path}
    return TemplateResponse(request, "labeling/change.html", context, status=refusal.status if refusal else 200)


def item_of(row: Judgment) -> Item:
    """What a judgment was about, as its labeler saw it."""
    texts = [completion.text for completion in row.comparison.ordered_completions()]
    slot = Slot(pk=row.slot_id, comparison_id=row.comparison_id, display_order=row.display_order)
    return make_item(
        slot=slot, protocol=protocol_of(row.protocol_id), protocol_id=row.protocol_id, draft=None,
        messages=row.comparison.prompt.messages, texts=[texts[position] for position in row.display_order],
    )  # fmt: skip


@never_cache
@require_safe
@labeler_page
def summary(request: HttpRequest, project: Project) -> HttpResponse:
    """What I did today and in this sitting."""
    found = summary_of(project=project, labeler=request.user)
    return TemplateResponse(request, "labeling/summary.html", {"summary": found, "section": "label"})


def _to(name: str, project: Project) -> HttpResponse:
    return HttpResponseRedirect(reverse(name, args=[project.slug]), status=303)
