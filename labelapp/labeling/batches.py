"""Comparisons that belong together in time: one priority, one deadline. A change reaches what is not answered yet."""

from collections.abc import Iterable
from datetime import datetime

from django.db import IntegrityError, transaction
from django.db.models import QuerySet
from django.utils.translation import gettext

from labelapp.labeling.quality.reask import keys_of
from labelapp.labeling.refusals import BadBatch
from labelapp.models import Batch, Comparison, Project, Slot

UNANSWERED = (Slot.State.OPEN, Slot.State.LEASED)
LEAST, MOST = -(2**31), 2**31 - 1


def create_batch(
    *, project: Project, name: str, priority: int = 0, deadline: datetime | None = None
) -> Batch:
    """A batch with nothing in it yet. Raises BadBatch: no name, one that is taken, or no such priority."""
    name = name.strip()
    if not 1 <= len(name) <= 120:
        raise BadBatch(gettext("The name %(name)r must be a text of 1 to 120 characters.") % {"name": name[:40]})
    _check_priority(priority)
    try:
        with transaction.atomic():
            return Batch.objects.create(project=project, name=name, priority=priority, deadline=deadline)
    except IntegrityError as error:
        raise BadBatch(
            gettext("There is a batch %(name)r already; choose another name, or assign to that one.")
            % {"name": name}
        ) from error


@transaction.atomic
def assign_to_batch(comparisons: QuerySet[Comparison] | Iterable[Comparison], batch: Batch | None) -> int:
    """Move comparisons of the batch's project into it, with its priority; or out of any, with none. How many."""
    chosen = Comparison.objects.filter(pk__in=keys_of(comparisons))
    if batch:
        chosen = chosen.filter(project=batch.project_id)
    _hand_out(chosen, batch.priority if batch else 0)
    return chosen.update(batch=batch)


@transaction.atomic
def set_priority(batch: Batch, priority: int) -> None:
    """Hand the batch out sooner (a lower number) or later. Raises BadBatch."""
    _check_priority(priority)
    _hand_out(batch.comparisons.all(), priority)
    batch.project.look_again()
    Batch.objects.filter(pk=batch.pk).update(priority=priority)


def set_deadline(batch: Batch, deadline: datetime | None) -> None:
    """When the batch should be done; the queue does not enforce it, pages show it."""
    Batch.objects.filter(pk=batch.pk).update(deadline=deadline)


def _hand_out(comparisons: QuerySet[Comparison], priority: int) -> None:
    unanswered = Slot.objects.filter(comparison__in=keys_of(comparisons), state__in=UNANSWERED)
    unanswered.update(priority=priority)


def _check_priority(priority: int) -> None:
    if not LEAST <= priority <= MOST:
        raise BadBatch(
            gettext("Priority %(priority)s is out of range; choose between %(LEAST)s and %(MOST)s.")
            % {"priority": priority, "LEAST": LEAST, "MOST": MOST}
        )
