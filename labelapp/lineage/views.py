"""Where everything came from and what was made from it: drawn, listed, by whom, and what a retraction affects."""

from urllib.parse import urlencode

from django.db import OperationalError, transaction
from django.db.models import Count, Exists, OuterRef, QuerySet
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404
from django.template.response import TemplateResponse
from django.urls import reverse
from django.views.decorators.http import require_safe

from labelapp.accounts.permissions import may, project_page
from labelapp.datasets.held import held_by, index_earlier
from labelapp.datasets.row_views import limit_statements
from labelapp.lineage.anchors import anchor_of
from labelapp.lineage.drawing import draw, fold_nodes, folded, items_of
from labelapp.lineage.fed import affected_by, fed_by, judged_by, leavers, person_of, retracted
from labelapp.lineage.graph import DOWN, UP, Story, story_of
from labelapp.lineage.nodes import nodes_of
from labelapp.models import (
    Audit,
    AuditMetric,
    Comparison,
    ComparisonCompletion,
    Completion,
    Judgment,
    Project,
    SnapshotSource,
)

PAGE = 50


@require_safe
@project_page("research")
def lineage(request: HttpRequest, project: Project) -> HttpResponse:
    """Where to begin, and what no longer stands although something learnt from it."""
    index_earlier(project)
    context = {
        "section": "versions",
        "versions": project.versions.all()[:PAGE],
        "snapshots": project.snapshots.all()[:PAGE],
        "retracted": retracted(project)[:PAGE],
        "retracted_of": affected_by(project, retracted(project).select_related(None).order_by()),
        "leavers": leavers(project, names=may(request.role, "manage")),
    }
    return TemplateResponse(request, "lineage/index.html", context)


@require_safe
@project_page("research")
def lineage_of(request: HttpRequest, project: Project, kind: str, key: str) -> HttpResponse:
    """One thing: everything it came from, everything made from it, and who judged what it learnt from."""
    index_earlier(project)
    anchor, near = anchor_of(project, kind, key)
    story = story_of(project.pk, anchor, near)
    context = {"section": "versions", "page": own_page(project, kind, key)}
    context |= drawn(request, project, story) | fed(request, story)
    if kind == "judgment":
        row = Judgment.objects.select_related("replaced_by").get(pk=key)
        context |= {"judgment": row, "affected": affected_by(project, Judgment.objects.filter(pk=row.pk))}
    return TemplateResponse(request, "lineage/story.html", context)


def own_page(project: Project, kind: str, key: str) -> str:
    """Where the thing is shown for its own sake."""
    if kind in ("version", "snapshot", "round", "comparison"):
        return reverse(kind, args=[project.slug, key])
    if kind == "judgment":
        row = Judgment.objects.get(pk=key)
        return reverse("comparison", args=[project.slug, row.comparison_id]) + f"#judgment-{row.pk}"
    if kind == "figure":
        metric = AuditMetric.objects.select_related("audit__version").get(pk=key)
        return reverse("version", args=[project.slug, metric.audit.version.name]) + f"#metric-{metric.pk}"
    if kind == "audit":
        version = Audit.objects.select_related("version").get(pk=key).version
        return reverse("version", args=[project.slug, version.name]) + f"#audit-{key}"
    return ""


def drawn(request: HttpRequest, project: Project, story: Story) -> dict:
    """The drawing and the list, folded unless all was asked for."""
    whole = "all" in request.GET
    shown = folded(story, whole=whole)
    nodes = nodes_of(project, {node for node, name in shown.stands_for.items() if node == name})
    nodes |= fold_nodes(shown.folds, f"?{urlencode({'all': 1})}")
    return {
        "anchor": nodes[story.anchor],
        "drawing": draw(shown, nodes, story.anchor),
        "before": items_of(story.anchor, shown.edges, nodes, UP),
        "after": items_of(story.anchor, shown.edges, nodes, DOWN),
        "came_from": len(story.before) - 1,
        "made": len(story.after) - 1,
        "whole": whole,
        "folds": bool(shown.folds),
    }


def fed(request: HttpRequest, story: Story) -> dict:
    """Who judged what it learnt from; of a snapshot what it holds itself. Too much to count is said, not guessed."""
    snapshots = story.keys("snapshot", story.before)
    if not snapshots:
        return {"fed": None}
    try:
        with transaction.atomic():
            limit_statements()
            return {"fed": fed_by(snapshots, names=may(request.role, "manage")), "fed_snapshots": len(snapshots)}
    except OperationalError:
        return {"fed": None, "too_slow": True}


@require_safe
@project_page("research")
def lineage_source(request: HttpRequest, project: Project, number: int) -> HttpResponse:
    """The judgments that a snapshot holds of one origin: what a folded node stands for."""
    source = get_object_or_404(SnapshotSource.objects.select_related("snapshot"), snapshot__project=project, pk=number)
    rows = judgments_of(source).select_related("comparison__prompt", "guideline", "protocol")
    context = {"section": "versions", "source": source, **page_of(request, rows)}
    return TemplateResponse(request, "lineage/judgments.html", context)


def judgments_of(source: SnapshotSource) -> QuerySet[Judgment]:
    """Held by the snapshot, of this origin, on answers of exactly these versions."""
    rows = held_by([source.snapshot_id]).filter(comparison__origin=source.origin, comparison__round=source.round_id)
    written = ComparisonCompletion.objects.filter(
        comparison=OuterRef("comparison"), completion__version__isnull=False
    )
    for version in source.versions:
        rows = rows.filter(Exists(written.filter(completion__version=version)))
    return rows.filter(~Exists(written.exclude(completion__version__in=source.versions)))


@require_safe
@project_page("research")
def lineage_answers(request: HttpRequest, project: Project, name: str) -> HttpResponse:
    """The answers that a version wrote, each with its own lineage."""
    version = get_object_or_404(project.versions, name=name)
    rows = version.completions.select_related("prompt").annotate(compared=Count("comparisons"))
    context = {"section": "versions", "version": version, **page_of(request, rows)}
    return TemplateResponse(request, "lineage/answers.html", context)


@require_safe
@project_page("research")
def lineage_compared(request: HttpRequest, project: Project, number: int) -> HttpResponse:
    """The comparisons that one answer stands in."""
    completion = get_object_or_404(Completion.objects.select_related("prompt"), prompt__project=project, pk=number)
    rows = Comparison.objects.filter(completions=completion).annotate(judged=Count("judgments"))
    context = {"section": "versions", "completion": completion, **page_of(request, rows)}
    return TemplateResponse(request, "lineage/comparisons.html", context)


@require_safe
@project_page("research")
def lineage_annotator(request: HttpRequest, project: Project, annotator: str) -> HttpResponse:
    """What learnt from one person's judgments: what to think of when they take them back, or are erased."""
    index_earlier(project)
    rows, person = judged_by(project, annotator), person_of(project, annotator)
    if person is None and not rows.exists():
        raise Http404("nobody of this name judged here")
    name = person.get_username() if person and may(request.role, "manage") else ""
    context = {
        "section": "versions",
        "annotator": annotator,
        "name": name,
        "judgments": rows.count(),
        "affected": affected_by(project, rows),
    }
    return TemplateResponse(request, "lineage/annotator.html", context)


def page_of(request: HttpRequest, rows: QuerySet) -> dict:
    """Rows newest first, a page at a time, and where the next page starts."""
    before = request.GET.get("before", "")
    if before.isdecimal() and len(before) < 18:
        rows = rows.filter(pk__lt=int(before))
    found = list(rows.order_by("-pk")[: PAGE + 1])
    return {"rows": found[:PAGE], "next": found[PAGE - 1].pk if len(found) > PAGE else None}
