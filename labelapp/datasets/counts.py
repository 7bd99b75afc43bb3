"""How many rows a project has. Pages count for themselves as long as that is quick; of a large project they show what
a background task counted, and since when that is."""

import time
from datetime import timedelta

from django.db.models import Max
from django.utils import timezone

from labelapp.datasets.filters import comparisons_in
from labelapp.models import Comparison, Judgment, Project, ProjectCounts, Prompt, QueueHealth, Slot

QUICK = 0.1  # seconds that a page may spend on counting
REST = 50  # a count that took a second is not repeated for 50 seconds
AT_LEAST_EVERY = timedelta(hours=1)


def project_counts(project: Project) -> dict:
    """How many rows of each kind the project has. "open" means that a place is left for anybody. as_of: since when
    the figures are, where they are not of this moment."""
    stored = ProjectCounts.objects.filter(project=project).first()
    if stored and stored.count_seconds > QUICK:
        return stored.figures | {"as_of": stored.counted_at}
    return count_rows(project) | {"as_of": None}


def count_rows(project: Project) -> dict[str, int]:
    return {
        "judgments": Judgment.objects.standing().filter(comparison__project=project).count(),
        "comparisons": Comparison.objects.filter(project=project).count(),
        "prompts": project.prompts.count(),
        "fresh": project.prompts.filter(fresh=True).count(),
        **{state: comparisons_in(project, state).count() for state in ("open", "leased", "done")},
    }


def refresh_counts() -> None:
    """Count again the projects in which something may have happened, those whose count takes long more rarely."""
    newest = [model.objects.aggregate(newest=Max("pk"))["newest"] for model in (Judgment, Prompt, Slot)]
    for project in Project.objects.select_related("counts").order_by("pk"):
        health = QueueHealth.objects.filter(project=project, batch=None).first()
        mark = f"{newest}:{health.mark if health else ''}"
        if is_due(getattr(project, "counts", None), mark):
            store_counts(project, mark)


def is_due(stored: ProjectCounts | None, mark: str) -> bool:
    if stored is None:
        return True
    age = timezone.now() - stored.counted_at
    rested = age >= timedelta(seconds=REST * stored.count_seconds)
    return age >= AT_LEAST_EVERY or (rested and stored.figures.get("mark") != mark)


def store_counts(project: Project, mark: str) -> None:
    now, started = timezone.now(), time.perf_counter()
    figures = count_rows(project) | {"mark": mark}
    seconds = time.perf_counter() - started
    ProjectCounts.objects.update_or_create(
        project=project, defaults={"figures": figures, "count_seconds": seconds, "counted_at": now}
    )
