"""Swapped repeats: an item comes again to the same person, the other way round, to see whether they say the same.

A repeat is a comparison of its own, one for all who get it again, so that the queue's rule holds without exception: a
person answers a comparison once. It keeps the original's positions, and so its answers compare as they are; only what
is shown where is reversed. Its hash says that it repeats the original; no other content ever has that hash.
"""

from datetime import timedelta

from django.db.models import OuterRef, Subquery, Sum
from django.utils import timezone

from labelapp.labeling.quality.agreement import Share, compares, differ
from labelapp.labeling.quality.places import add_slot, lock_comparison
from labelapp.models import Comparison, ComparisonCompletion, Judgment, Project, Slot, WorkDay, text_hash

DUE_AFTER = timedelta(days=1)
DUE_AFTER_JUDGED = 50  # or so many items later, whichever comes first


def plan_repeat(judgment: Judgment) -> Slot:
    """Reserve the repeat of what was just judged, in the reverse of the order that its labeler saw."""
    repeat = lock_comparison(_repeat_of(judgment.comparison).pk)
    due = {"not_before": timezone.now() + DUE_AFTER, "after_judged": _judged(judgment) + DUE_AFTER_JUDGED}
    due |= {"display_order": judgment.display_order[::-1]}
    mine = repeat.slots.filter(reserved_for=judgment.labeler_id)
    if slot := mine.first():
        mine.filter(state=Slot.State.CLOSED).update(state=Slot.State.OPEN, **due)
        return slot
    return add_slot(repeat, purpose=Slot.Purpose.REPEAT, reserved_for_id=judgment.labeler_id, **due)


def drop_repeat(judgment: Judgment) -> None:
    """Forget the repeat of an answer that was withdrawn, unless it has been answered."""
    planned = Slot.objects.filter(
        comparison__repeats=judgment.comparison_id, reserved_for=judgment.labeler_id, purpose=Slot.Purpose.REPEAT,
        state__in=[Slot.State.OPEN, Slot.State.LEASED],
    )  # fmt: skip
    planned.leave(Slot.State.CLOSED)


def self_consistency(project: Project, labeler=None) -> Share:
    """How many repeats were answered like the original, of all where both answers stand; of one labeler, or of all."""
    first = Judgment.objects.standing().filter(
        comparison=OuterRef("comparison__repeats"), labeler=OuterRef("labeler"), surplus=False
    )  # fmt: skip
    again = Judgment.objects.standing().filter(
        comparison__project=project, comparison__origin=Comparison.Origin.SWAPPED, surplus=False
    )  # fmt: skip
    if labeler is not None:
        again = again.filter(labeler=labeler)
    again = list(again.annotate(first=Subquery(first.values("pk")[:1])))
    originals = Judgment.objects.in_bulk([row.first for row in again])
    pairs = [(originals[row.first], row) for row in again if row.first]
    pairs = [(one, other) for one, other in pairs if compares(one) and compares(other)]
    return Share(sum(not differ(one, other) for one, other in pairs), len(pairs))


def _repeat_of(original: Comparison) -> Comparison:
    """The one repeat of this comparison, made where there is none yet."""
    content_hash = text_hash(f"repeat\n{original.content_hash}")
    repeat, made = Comparison.objects.get_or_create(
        project_id=original.project_id,
        content_hash=content_hash,
        defaults={
            "prompt_id": original.prompt_id,
            "protocol_id": original.protocol_id,
            "origin": Comparison.Origin.SWAPPED,
            "repeats": original,
            "requires": original.requires,
        },
    )
    if made:
        ComparisonCompletion.objects.bulk_create(
            ComparisonCompletion(comparison=repeat, completion_id=place.completion_id, position=place.position)
            for place in original.comparisoncompletion_set.all()
        )
    return repeat


def _judged(judgment: Judgment) -> int:
    mine = WorkDay.objects.filter(project=judgment.project_id, labeler=judgment.labeler_id)
    return mine.aggregate(judged=Sum("judged"))["judged"] or 0
