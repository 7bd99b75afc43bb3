"""The rows behind the figures: prompts, comparisons by state, judgments; newest first, a page at a time."""

from urllib.parse import urlencode

from django.db import OperationalError, connection, transaction
from django.db.models import Exists, OuterRef, Prefetch, QuerySet
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404
from django.template.response import TemplateResponse
from django.utils.translation import gettext_lazy
from django.views.decorators.http import require_GET

from alignment.manifest import split_of
from labelapp.accounts.permissions import may, project_page
from labelapp.datasets.bulk_forms import OrderForm
from labelapp.datasets.filters import COUNTED, FilterForm, count_up_to, matching
from labelapp.models import Comparison, Judgment, Project, Prompt, Slot

PAGE = 50
STATEMENT_MS = 8000
TOO_SLOW = gettext_lazy("Too many rows to search through: fill in more of the filter, so that fewer are left.")


@require_GET
@project_page("research")
def prompts(request: HttpRequest, project: Project) -> HttpResponse:
    """All prompts, or the fresh ones, with the group that decides their split."""
    state = "fresh" if request.GET.get("state") == "fresh" else ""
    rows = project.prompts.filter(fresh=True) if state else project.prompts.all()
    context = _page(request, rows, Prompt.objects.prefetch_related("comparisons"))
    context |= {"section": "data", "state": state}
    for prompt in context["rows"]:
        prompt.split = split_of(prompt.group, project.test_share)
    return TemplateResponse(request, "datasets/prompts.html", context | {"states": ("", "fresh")})


@require_GET
@project_page("research")
def comparisons(request: HttpRequest, project: Project) -> HttpResponse:
    """Comparisons, as the filter says; whoever manages may pick some, or all of them, to change at once."""
    form = FilterForm(request.GET, project=project)
    said = form.said()
    rows = matching(project, said) if form.is_valid() else Comparison.objects.none()
    try:
        with transaction.atomic():
            limit_statements()
            context = _page(request, rows, with_places(Comparison.objects.all()))
            many = count_up_to(rows) if may(request.role, "manage") else 0
    except OperationalError:
        form.add_error(None, TOO_SLOW)
        context, many = {"rows": [], "next": None}, 0
    context |= {"section": "data", "filter": form, "said": said, "query": urlencode(said), "many": many}
    context |= {"order": OrderForm(project=project, belongs_to="bulk"), "counted": COUNTED}
    return TemplateResponse(request, "datasets/comparisons.html", context, status=422 if form.errors else 200)


def with_places(rows: QuerySet[Comparison]) -> QuerySet[Comparison]:
    return rows.select_related("prompt", "batch").prefetch_related(
        Prefetch("judgments", Judgment.objects.standing().only("pk", "comparison"), "standing"),
        Prefetch("slots", Slot.objects.order_by("number")),
    )


def limit_statements() -> None:
    """Until the transaction ends, a statement that takes longer than a person waits is given up."""
    with connection.cursor() as cursor:
        cursor.execute("SET LOCAL statement_timeout = %s", [STATEMENT_MS])


@require_GET
@project_page("research")
def comparison(request: HttpRequest, project: Project, number: int) -> HttpResponse:
    """One comparison with its completions, their authors, and every judgment."""
    found = get_object_or_404(Comparison.objects.select_related("prompt"), project=project, pk=number)
    places = found.comparisoncompletion_set.select_related("completion__version").order_by("position")
    context = {
        "section": "data",
        "comparison": found,
        "completions": [place.completion for place in places],
        "judgments": _judgments(project).filter(comparison=found).order_by("pk")[:200],
        "slots": found.slots.order_by("number"),
    }
    return TemplateResponse(request, "datasets/comparison.html", context)


@require_GET
@project_page("research")
def judgments(request: HttpRequest, project: Project) -> HttpResponse:
    """What was answered, by whom as exports name them."""
    # As NOT EXISTS, for which the planner looks up a page's rows; of a join of all it expects far fewer than there are.
    replaced = Exists(Judgment.objects.filter(replaces=OuterRef("pk")))
    rows = Judgment.objects.filter(~replaced, withdrawn=False, comparison__project=project)
    context = _page(request, rows, _judgments(project)) | {"section": "data"}
    return TemplateResponse(request, "datasets/judgments.html", context)


def _judgments(project: Project) -> QuerySet[Judgment]:
    return Judgment.objects.filter(comparison__project=project).select_related(
        "comparison__prompt", "replaced_by", "guideline", "protocol"
    )


def _page(request: HttpRequest, rows: QuerySet, whole: QuerySet) -> dict:
    """The rows before the one named in the address, read from `whole`, and where the next page starts."""
    before = request.GET.get("before", "")
    if before.isdecimal() and len(before) < 18:
        rows = rows.filter(pk__lt=int(before))
    found = list(rows.order_by("-pk").values_list("pk", flat=True)[: PAGE + 1])
    shown = list(whole.filter(pk__in=found[:PAGE]).order_by("-pk"))
    return {"rows": shown, "next": found[PAGE - 1] if len(found) > PAGE else None}
