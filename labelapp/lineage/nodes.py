"""The nodes of a story in words: what each is, a detail, and where it leads."""

from collections import defaultdict
from collections.abc import Callable, Iterable
from typing import NamedTuple

from django.db.models import Count
from django.urls import reverse
from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from labelapp.models import (
    Audit,
    AuditMetric,
    Comparison,
    Completion,
    DeploymentEvent,
    Judgment,
    Project,
    Round,
    Snapshot,
    SnapshotSource,
    Version,
)
from labelapp.rounds import figures


class Node(NamedTuple):
    """One box: its kind in words, its name, a detail, and its address; no address where nothing is to be opened."""

    key: str
    kind: str
    name: str
    detail: str = ""
    href: str = ""

    @property
    def folded(self) -> bool:
        return self.key.startswith("fold:")

    @property
    def label(self) -> str:
        return ", ".join(filter(None, [f"{self.kind} {self.name}", self.detail]))


def nodes_of(project: Project, keys: Iterable[str]) -> dict[str, Node]:
    """The nodes by their keys, with one query a kind."""
    by_kind = defaultdict(list)
    for key in keys:
        kind, _colon, name = key.partition(":")
        by_kind[kind].append(name)
    found = {}
    for kind, names in by_kind.items():
        rows = KINDS[kind](project, names)
        found |= {f"{kind}:{name}": Node(f"{kind}:{name}", *words) for name, words in rows.items()}
    return found


Words = dict[str, tuple[str, ...]]


def story_page(project: Project, kind: str, key: object) -> str:
    return reverse("lineage_of", args=[project.slug, kind, key])


def versions(project: Project, names: list[str]) -> Words:
    kinds = {"policy": _("Policy"), "reward": _("Reward model"), "cost": _("Cost model")}
    rows = Version.objects.filter(project=project, pk__in=names)
    return {
        str(row.pk): (kinds[row.kind], row.name, row.get_state_display(), story_page(project, "version", row.name))
        for row in rows
    }


def snapshots(project: Project, names: list[str]) -> Words:
    return {
        str(row.pk): (
            _("Snapshot"), str(row), counted(row.judgments, "judgment"), story_page(project, "snapshot", row.digest)
        )
        for row in Snapshot.objects.filter(project=project, pk__in=names)
    }  # fmt: skip


def rounds(project: Project, names: list[str]) -> Words:
    return {
        str(row.pk): (
            _("Round"), str(row.number), f"{row.recipe.get('title', '')} · {row.get_state_display()}".strip(" ·"),
            story_page(project, "round", row.number),
        )
        for row in Round.objects.filter(project=project, pk__in=names)
    }  # fmt: skip


def sources(project: Project, names: list[str]) -> Words:
    """Judgments of one origin; the newest snapshot that holds them says how many."""
    rows, origins = {}, dict(Comparison.Origin.choices)
    for row in SnapshotSource.objects.filter(snapshot__project=project).order_by("snapshot__created_at", "pk"):
        name = f"{row.origin}:{row.round_id or ''}:{','.join(map(str, row.versions))}"
        rows[name] = (
            _("Judgments"), f"{row.judgments:,}",
            f"{counted(row.comparisons, 'comparison')} · {origins[row.origin]}",
            reverse("lineage_source", args=[project.slug, row.pk]),
        )  # fmt: skip
    return {name: rows[name] for name in names if name in rows}


def audits(project: Project, names: list[str]) -> Words:
    rows = Audit.objects.filter(version__project=project, pk__in=names)
    return {
        str(row.pk): (_("Audit"), row.suite, row.get_verdict_display(), story_page(project, "audit", row.pk))
        for row in rows
    }


def measured(project: Project, names: list[str]) -> Words:
    rows = AuditMetric.objects.filter(audit__version__project=project, pk__in=names)
    return {
        str(row.pk): (
            _("Figure"), figures.text(row.value, row.unit), figures.name(row.key),
            story_page(project, "figure", row.pk),
        )
        for row in rows
    }  # fmt: skip


def epochs(project: Project, names: list[str]) -> Words:
    rows = DeploymentEvent.objects.filter(version__project=project, pk__in=names).select_related("deployment")
    return {
        str(row.pk): (
            _("Served"), f"{row.deployment.alias}, {row.epoch}", row.get_action_display(),
            reverse("versions", args=[project.slug]),
        )
        for row in rows
    }  # fmt: skip


def completions(project: Project, names: list[str]) -> Words:
    rows = Completion.objects.filter(prompt__project=project, pk__in=names)
    return {
        str(row.pk): (_("Answer"), str(row.pk), shortened(row.text), story_page(project, "completion", row.pk))
        for row in rows
    }


def comparisons(project: Project, names: list[str]) -> Words:
    rows = Comparison.objects.filter(project=project, pk__in=names)
    return {
        str(row.pk): (_("Comparison"), str(row.pk), row.get_origin_display(), story_page(project, "comparison", row.pk))
        for row in rows
    }


def judgments(project: Project, names: list[str]) -> Words:
    rows = Judgment.objects.filter(comparison__project=project, pk__in=names).select_related("replaced_by")
    return {
        str(row.pk): (_("Judgment"), str(row.pk), standing(row), story_page(project, "judgment", row.pk))
        for row in rows
    }


def standing(row: Judgment) -> str:
    if row.withdrawn:
        return _("withdraws an answer")
    later = getattr(row, "replaced_by", None)
    if later is None:
        return row.annotator
    return _("withdrawn since") if later.withdrawn else _("revised since")


def judgments_of_comparison(project: Project, names: list[str]) -> Words:
    rows = Comparison.objects.filter(project=project, pk__in=names).annotate(n=Count("judgments"))
    return {
        str(row.pk): (_("Judgments"), str(row.n), _("of comparison %d") % row.pk,
                      reverse("comparison", args=[project.slug, row.pk]))
        for row in rows
    }  # fmt: skip


def comparisons_of_completion(project: Project, names: list[str]) -> Words:
    rows = Completion.objects.filter(prompt__project=project, pk__in=names).annotate(n=Count("comparisons"))
    return {
        str(row.pk): (_("Comparisons"), str(row.n), _("of this answer"),
                      reverse("lineage_compared", args=[project.slug, row.pk]))
        for row in rows
    }  # fmt: skip


def judgments_of_completion(project: Project, names: list[str]) -> Words:
    rows = Completion.objects.filter(prompt__project=project, pk__in=names).annotate(n=Count("comparisons__judgments"))
    return {
        str(row.pk): (_("Judgments"), str(row.n), _("of this answer"),
                      reverse("lineage_compared", args=[project.slug, row.pk]))
        for row in rows
    }  # fmt: skip


def answers_of_version(project: Project, names: list[str]) -> Words:
    rows = Version.objects.filter(project=project, pk__in=names).annotate(n=Count("completions"))
    return {
        str(row.pk): (_("Answers"), f"{row.n:,}", _("written by it"),
                      reverse("lineage_answers", args=[project.slug, row.name]))
        for row in rows
    }  # fmt: skip


def authors(project: Project, names: list[str]) -> Words:
    return {name: (_("Author"), name, _("not a version of this project")) for name in names}


def counted(number: int, what: str) -> str:
    if what == "judgment":
        return ngettext("%s judgment", "%s judgments", number) % f"{number:,}"
    return ngettext("%s comparison", "%s comparisons", number) % f"{number:,}"


def shortened(text: str, width: int = 26) -> str:
    words = " ".join(text.split())
    return words if len(words) <= width else words[: width - 1].rstrip() + "…"


KINDS: dict[str, Callable[[Project, list[str]], Words]] = {
    "version": versions,
    "snapshot": snapshots,
    "round": rounds,
    "source": sources,
    "audit": audits,
    "figure": measured,
    "epoch": epochs,
    "completion": completions,
    "comparison": comparisons,
    "judgment": judgments,
    "judgments": judgments_of_comparison,
    "comparisons": comparisons_of_completion,
    "judged": judgments_of_completion,
    "answers": answers_of_version,
    "author": authors,
}
