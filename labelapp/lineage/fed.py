"""Whose judgments something learnt from, under which rules; and what learnt from the judgments of one person."""

from datetime import datetime
from typing import NamedTuple

from django.db.models import Count, Exists, F, Max, Min, OuterRef, Q, QuerySet

from labelapp.datasets.held import held_by
from labelapp.lineage.graph import DOWN, distances, walked
from labelapp.models import Judgment, Membership, Project, Snapshot, SnapshotSpan, User, Version

LISTED = 200


class Share(NamedTuple):
    """What one annotator gave under one version of the rules. `name` is the login, for those who may see it."""

    annotator: str
    name: str
    guideline: int | None
    protocol: int
    judgments: int
    first: datetime
    last: datetime


class Fed(NamedTuple):
    """The shares, largest first, and how many more there are with how many judgments."""

    shares: list[Share]
    annotators: int
    judgments: int
    more: int


def fed_by(snapshots: list[int], *, names: bool) -> Fed:
    """Who judged what the snapshots hold, each judgment counted once; `names` tells logins too."""
    rows = held_by(snapshots)
    grouped = (
        rows.values("labeler_id", "labeler__username", "external_annotator", "guideline__number", "protocol__number")
        .annotate(n=Count("pk"), first=Min("created_at"), last=Max("created_at"))
        .order_by("-n", "labeler_id", "external_annotator", "guideline__number", "protocol__number")
    )
    found = list(grouped)
    shares = [
        Share(
            annotator=row["external_annotator"] or f"labeler-{row['labeler_id']}",
            name=(row["labeler__username"] or "") if names else "",
            guideline=row["guideline__number"],
            protocol=row["protocol__number"],
            judgments=row["n"],
            first=row["first"],
            last=row["last"],
        )
        for row in found[:LISTED]
    ]
    annotators = {(row["labeler_id"], row["external_annotator"]) for row in found}
    return Fed(shares, len(annotators), sum(row["n"] for row in found), max(0, len(found) - LISTED))


def judged_by(project: Project, annotator: str) -> QuerySet[Judgment]:
    """All that an annotator judged here, by the pseudonym that exports and pages show."""
    mine = Q(external_annotator=annotator)
    if key := labeler_key(annotator):
        mine |= Q(labeler=key)
    return Judgment.objects.filter(mine, comparison__project=project)


def person_of(project: Project, annotator: str) -> User | None:
    """The account behind a pseudonym, where it is or was of this project."""
    here = Q(memberships__project=project) | Q(judgments__comparison__project=project)
    return User.objects.filter(here, pk=labeler_key(annotator)).first()


def labeler_key(annotator: str) -> int | None:
    key = annotator.removeprefix("labeler-")
    return int(key) if key != annotator and key.isdecimal() and len(key) < 18 else None


class Affected(NamedTuple):
    """A snapshot that holds some of the judgments, how many of them, and every version that came of it."""

    snapshot: Snapshot
    judgments: int
    versions: list[Version]


def affected_by(project: Project, judgments: QuerySet[Judgment]) -> list[Affected]:
    """Every snapshot that holds one of the judgments, newest first, with all that learnt from it, however far on."""
    found = []
    for snapshot in project.snapshots.order_by("-created_at"):
        spans = SnapshotSpan.objects.filter(snapshot=snapshot, first__lte=OuterRef("pk"), last__gte=OuterRef("pk"))
        if held := judgments.filter(Exists(spans)).count():
            found.append(Affected(snapshot, held, made_from(project, snapshot)))
    return found


def made_from(project: Project, snapshot: Snapshot) -> list[Version]:
    node = f"snapshot:{snapshot.pk}"
    reached = distances(walked(project.pk, [node], DOWN), node, DOWN)
    keys = [name.partition(":")[2] for name in reached if name.startswith("version:")]
    return list(Version.objects.filter(project=project, pk__in=keys).order_by("-created_at"))


def retracted(project: Project) -> QuerySet[Judgment]:
    """Judgments that were withdrawn or revised, and that some snapshot froze before that; newest retraction first."""
    spans = SnapshotSpan.objects.filter(
        snapshot__project=project, first__lte=OuterRef("pk"), last__gte=OuterRef("pk")
    )
    rows = Judgment.objects.filter(Exists(spans), comparison__project=project, replaced_by__isnull=False)
    return rows.select_related("replaced_by").order_by("-replaced_by__pk")


class Leaver(NamedTuple):
    """Somebody who judged here and is no member any more, or whose account is closed."""

    annotator: str
    name: str
    judgments: int


def leavers(project: Project, *, names: bool) -> list[Leaver]:
    """Largest first. `names` tells logins too."""
    member = Membership.objects.filter(project=project, user=OuterRef("labeler"), user__is_active=True)
    rows = Judgment.objects.filter(~Exists(member), comparison__project=project, labeler__isnull=False)
    counted = rows.values("labeler_id", login=F("labeler__username")).annotate(n=Count("pk")).order_by("-n")
    return [
        Leaver(f"labeler-{row['labeler_id']}", row["login"] if names else "", row["n"]) for row in counted[:LISTED]
    ]
