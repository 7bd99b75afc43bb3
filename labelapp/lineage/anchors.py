"""What a story may be told of, by the names in its address, and the single rows around it."""

from django.http import Http404
from django.shortcuts import get_object_or_404

from labelapp.datasets.held import holding
from labelapp.lineage.graph import Edge
from labelapp.models import Audit, AuditMetric, Comparison, Completion, Judgment, Project

SHOWN = 6  # single comparisons or judgments beside an anchor; more of them fold into one node


def anchor_of(project: Project, kind: str, key: str) -> tuple[str, set[Edge]]:
    """The anchor's node, and the edges to the rows beside it. Raises Http404 for what the project does not have."""
    if kind not in ANCHORS:
        raise Http404("no such kind")
    return ANCHORS[kind](project, key)


def number(key: str) -> int:
    if not key.isdecimal() or len(key) > 18:
        raise Http404("no such number")
    return int(key)


def of_version(project: Project, key: str) -> tuple[str, set[Edge]]:
    version = get_object_or_404(project.versions, name=key)
    node = f"version:{version.pk}"
    return node, {Edge(node, f"answers:{version.pk}")} if version.completions.exists() else set()


def of_snapshot(project: Project, key: str) -> tuple[str, set[Edge]]:
    return f"snapshot:{get_object_or_404(project.snapshots, digest=key).pk}", set()


def of_round(project: Project, key: str) -> tuple[str, set[Edge]]:
    return f"round:{get_object_or_404(project.rounds, number=number(key)).pk}", set()


def of_audit(project: Project, key: str) -> tuple[str, set[Edge]]:
    return f"audit:{get_object_or_404(Audit, version__project=project, pk=number(key)).pk}", set()


def of_figure(project: Project, key: str) -> tuple[str, set[Edge]]:
    metric = get_object_or_404(AuditMetric, audit__version__project=project, pk=number(key))
    node = f"figure:{metric.pk}"
    return node, {Edge(f"audit:{metric.audit_id}", node)}


def of_completion(project: Project, key: str) -> tuple[str, set[Edge]]:
    completion = get_object_or_404(Completion, prompt__project=project, pk=number(key))
    node = f"completion:{completion.pk}"
    edges = {Edge(author_of(completion), node)}
    compared = list(completion.comparisons.order_by("pk").values_list("pk", flat=True))
    if len(compared) > SHOWN:
        many = Edge(f"comparisons:{completion.pk}", f"judged:{completion.pk}")
        judgments = Judgment.objects.filter(comparison__in=compared).values_list("pk", flat=True)
        return node, edges | {Edge(node, many.tail), many} | kept(dict.fromkeys(judgments, many.head))
    for comparison in compared:
        edges |= {Edge(node, f"comparison:{comparison}")} | judged(comparison, most=1)
    return node, edges


def of_comparison(project: Project, key: str) -> tuple[str, set[Edge]]:
    comparison = get_object_or_404(Comparison, project=project, pk=number(key))
    node = f"comparison:{comparison.pk}"
    return node, written(comparison) | judged(comparison.pk, most=SHOWN)


def of_judgment(project: Project, key: str) -> tuple[str, set[Edge]]:
    judgment = get_object_or_404(
        Judgment.objects.select_related("comparison"), comparison__project=project, pk=number(key)
    )
    node = f"judgment:{judgment.pk}"
    edges = written(judgment.comparison) | {Edge(f"comparison:{judgment.comparison_id}", node)}
    earlier = filter(None, [judgment.replaces_id, judgment.implied_by_id])
    edges |= {Edge(f"judgment:{pk}", node) for pk in earlier}
    later = Judgment.objects.filter(replaces=judgment) | Judgment.objects.filter(implied_by=judgment)
    edges |= {Edge(node, f"judgment:{pk}") for pk in later.values_list("pk", flat=True)}
    named = {end for edge in edges for end in edge if end.startswith("judgment:")}
    return node, edges | kept({int(end.partition(":")[2]): end for end in named})


def written(comparison: Comparison) -> set[Edge]:
    """From who wrote the answers, and from the round that sampled them, to the comparison."""
    node = f"comparison:{comparison.pk}"
    edges = {Edge(f"round:{comparison.round_id}", node)} if comparison.round_id else set()
    for completion in comparison.completions.all():
        edges |= {Edge(author_of(completion), f"completion:{completion.pk}"), Edge(f"completion:{completion.pk}", node)}
    return edges


def author_of(completion: Completion) -> str:
    return f"version:{completion.version_id}" if completion.version_id else f"author:{completion.author}"


def judged(comparison: int, *, most: int) -> set[Edge]:
    """From a comparison to its judgments, as one node where they are more than `most`, and to what holds them."""
    judgments = Judgment.objects.filter(comparison=comparison).order_by("pk").values_list("pk", flat=True)
    folded = f"judgments:{comparison}" if len(judgments) > most else ""
    names = {pk: folded or f"judgment:{pk}" for pk in judgments}
    return {Edge(f"comparison:{comparison}", name) for name in names.values()} | kept(names)


def kept(names: dict[int, str]) -> set[Edge]:
    """From judgments, by the node that each is shown as, to the snapshots that hold them."""
    return {Edge(names[pk], f"snapshot:{found}") for pk, held in holding(names).items() for found in held}


ANCHORS = {
    "version": of_version,
    "snapshot": of_snapshot,
    "round": of_round,
    "audit": of_audit,
    "figure": of_figure,
    "completion": of_completion,
    "comparison": of_comparison,
    "judgment": of_judgment,
}
