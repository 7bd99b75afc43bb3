"""More judgments for what is open already, after a project's overlap has grown."""

import random
from collections import defaultdict

from django.db import transaction
from django.db.models import Exists, OuterRef, QuerySet

from labelapp.labeling.quality.places import next_order
from labelapp.labeling.quality.reask import VOTES
from labelapp.models import Comparison, Project, Slot

CHUNK = 1000  # comparisons in one transaction, so that nobody waits long for their locks


def wanting(project: Project, overlap: int) -> QuerySet:
    """Comparisons that still have a place to judge and were made for fewer judgments than `overlap`."""
    free = Slot.objects.filter(comparison=OuterRef("pk"), state__in=[Slot.State.OPEN, Slot.State.LEASED])
    return Comparison.objects.filter(Exists(free.filter(purpose__in=VOTES)), project=project, overlap__lt=overlap)


def extend_open_comparisons(*, project: Project, rng: random.Random | None = None) -> int:
    """Open the places that the project's overlap asks for in comparisons that are not finished; returns how many.

    Finished comparisons stay as they are. Where it is cut off it goes on when called again; called twice at once, each
    comparison is extended once.
    """
    rng, added, last = rng or random.Random(), 0, 0
    overlap = Project.objects.values_list("overlap", flat=True).get(pk=project.pk)
    while last is not None:
        last, new = _extend_some(project, overlap, last, rng)
        added += new
    project.look_again()
    return added


@transaction.atomic
def _extend_some(project: Project, overlap: int, after: int, rng: random.Random) -> tuple[int | None, int]:
    """Lock the chunk after this comparison, so that nobody else adds to the same ones, and add to it.

    Returns its last comparison, None where there was nothing left, and the number of places added.
    """
    locked = wanting(project, overlap).select_for_update(no_key=True, of=("self",))
    rows = list(locked.filter(pk__gt=after).order_by("pk")[:CHUNK])
    there = defaultdict(list)
    for slot in Slot.objects.filter(comparison__in=rows).order_by("number"):
        there[slot.comparison_id].append(slot)
    new = [slot for row in rows for slot in _more_slots(row, there[row.pk], overlap, rng)]
    Slot.objects.bulk_create(new, batch_size=CHUNK)
    Comparison.objects.filter(pk__in=[row.pk for row in rows]).update(overlap=overlap)
    return (rows[-1].pk if rows else None), len(new)


def _more_slots(comparison: Comparison, there: list[Slot], overlap: int, rng: random.Random) -> list[Slot]:
    votes = [slot for slot in there if slot.purpose in VOTES]
    orders, new = [slot.display_order for slot in votes], []
    for number in range(overlap - len(votes)):
        orders.append(next_order(orders, size=len(orders[0]), rng=rng))
        slot = Slot(
            comparison=comparison,
            project_id=comparison.project_id,
            number=there[-1].number + 1 + number,
            priority=votes[0].priority,
            shuffle_key=rng.randrange(-(2**31), 2**31),
            display_order=orders[-1],
            requires=comparison.requires,
        )
        new.append(slot)
    return new
