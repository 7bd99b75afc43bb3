"""A reviewer's pages: the next judgment to look at, one judgment, and what reviews have found so far."""

from uuid import uuid4

from django.contrib import messages
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect
from django.template.response import TemplateResponse
from django.urls import reverse
from django.utils.translation import gettext as _
from django.views.decorators.http import require_http_methods, require_safe

from labelapp.accounts.permissions import project_page
from labelapp.labeling.actions import protocol_of
from labelapp.labeling.forms import AnswerForm, fields_of
from labelapp.labeling.labeler_views import item_of
from labelapp.labeling.refusals import NotAnAnswer, Refusal
from labelapp.labeling.reviews.actions import accept, correct, reviewable, send_back
from labelapp.labeling.reviews.figures import agreement, latest_reviews
from labelapp.labeling.reviews.queue import next_review
from labelapp.labeling.reviews.words import headline, in_words
from labelapp.labeling.words import said_of
from labelapp.models import Judgment, Project, Review
from labelapp.policy import never_cache


@never_cache
@require_safe
@project_page("review")
def review(request: HttpRequest, project: Project) -> HttpResponse:
    """The next judgment that waits; ?past= are those that were passed over."""
    past = [int(text) for text in request.GET.getlist("past") if text.isdecimal() and len(text) < 18]
    found = next_review(project=project, reviewer=request.user, past=past)
    if found is None:
        return TemplateResponse(request, "reviews/nothing.html", {"section": "review", "past": past})
    return show(request, project, _judgment(request, project, found.judgment_id), found=found, past=past)


@never_cache
@require_http_methods(["GET", "HEAD", "POST"])
@project_page("review")
def review_judgment(request: HttpRequest, project: Project, judgment_id: int) -> HttpResponse:
    """One judgment; a POST gives the verdict and leads to the next."""
    judgment = _judgment(request, project, judgment_id)
    if request.method != "POST":
        return show(request, project, judgment)
    try:
        said = give(request, project, judgment)
    except Refusal as refusal:
        return show(request, project, judgment, refusal=refusal, kept=request.POST)
    messages.success(request, SAID[said.verdict] % {"number": judgment_id})
    return HttpResponseRedirect(reverse("review", args=[project.slug]), status=303)


SAID = {
    Review.Verdict.ACCEPTED: "#%(number)s accepted.",
    Review.Verdict.CORRECTED: "#%(number)s corrected: your answer counts now.",
    Review.Verdict.RETURNED: "#%(number)s returned to its labeler.",
}


def _judgment(request: HttpRequest, project: Project, judgment_id: int) -> Judgment:
    found = reviewable(project, request.user).select_related("comparison__prompt", "protocol", "guideline")
    judgment = found.filter(pk=judgment_id).first()
    if judgment is None:
        raise Http404("not a judgment that this person may review")
    return judgment


def give(request: HttpRequest, project: Project, judgment: Judgment) -> Review:
    """The verdict that was sent. Raises every Refusal of reviews.py."""
    about = {"project": project, "reviewer": request.user, "judgment_id": judgment.pk}
    verdict = request.POST.get("verdict")
    if verdict == "accepted":
        return accept(**about)
    if verdict == "returned":
        return send_back(**about, comment=request.POST.get("comment", ""))
    if verdict == "corrected":
        said = AnswerForm(request.POST).said(protocol_of(judgment.protocol_id), len(judgment.display_order))
        return correct(**about, submission_id=said["submission_id"], answer=said["answer"])
    raise NotAnAnswer(_("%(verdict)r is no verdict; accept, correct or return the judgment.") % {"verdict": verdict})


def show(
    request: HttpRequest, project: Project, judgment: Judgment, *, found=None, past=(), refusal=None, kept=None
) -> HttpResponse:
    """The item as its labeler saw it, what they said, and the form with their answer in it to correct."""
    answer, item = said_of(judgment), item_of(judgment)
    newer = Judgment.objects.filter(replaces=judgment).first()
    done = Review.objects.filter(judgment=judgment).select_related("reviewer").first()
    context = {
        "section": "review", "judgment": judgment, "item": item, "found": found, "past": [*past, judgment.pk],
        "headline": headline(answer, item.protocol), "words": in_words(answer, item.protocol),
        "refusal": refusal, "newer": newer, "done": done, "open": newer is None and done is None,
        "kept": kept if kept and kept.get("verdict") == "corrected" else fields_of(answer),
        "comment": kept.get("comment", "") if kept else "",
        "action": reverse("review_judgment", args=[project.slug, judgment.pk]),
        "hidden": {"verdict": "corrected", "submission_id": uuid4()},
    }  # fmt: skip
    return TemplateResponse(request, "reviews/review.html", context, status=refusal.status if refusal else 200)


@never_cache
@require_safe
@project_page("review")
def review_history(request: HttpRequest, project: Project) -> HttpResponse:
    """The latest reviews, and how often each labeler's judgments were accepted."""
    context = {"section": "review", "people": agreement(project), "reviews": latest_reviews(project)}
    return TemplateResponse(request, "reviews/history.html", context)
