"""Running counts of what each labeler did on each day (UTC)."""

from django.db.models import F
from django.utils import timezone

from labelapp.models import Project, WorkDay


def count_work(*, project: Project, labeler, judged: int = 0, skipped: int = 0) -> None:
    """Add to the labeler's figures of today."""
    today, _ = WorkDay.objects.get_or_create(project=project, labeler=labeler, day=timezone.now().date())
    WorkDay.objects.filter(pk=today.pk).update(judged=F("judged") + judged, skipped=F("skipped") + skipped)
