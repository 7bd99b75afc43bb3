"""One more place to judge a comparison that is in the queue already."""

import random
from collections.abc import Sequence

from labelapp.labeling.quality.reask import VOTES
from labelapp.models import Comparison, Slot


def lock_comparison(comparison_id: int) -> Comparison:
    """The comparison, to whose places nobody else adds one until the transaction ends."""
    return Comparison.objects.select_for_update(no_key=True, of=("self",)).get(pk=comparison_id)


def add_slot(comparison: Comparison, **fields) -> Slot:
    """One more slot of a comparison that lock_comparison gave, shown in the next counter-balanced order."""
    rows = list(comparison.slots.order_by("number").values_list("number", "purpose", "display_order"))
    votes = fields.get("purpose", Slot.Purpose.WORK) in VOTES
    alike = [order for _, purpose, order in rows if (purpose in VOTES) == votes]
    if "display_order" not in fields:
        size = comparison.comparisoncompletion_set.count()
        fields["display_order"] = next_order(alike, size=size)
    return Slot.objects.create(
        comparison=comparison,
        project_id=comparison.project_id,
        number=rows[-1][0] + 1 if rows else 0,
        shuffle_key=random.randrange(-(2**31), 2**31),
        requires=comparison.requires,
        **fields,
    )


def next_order(orders: Sequence[list[int]], *, size: int, rng: random.Random | None = None) -> list[int]:
    """The order that goes on where `orders` end: in every `size` of them each position is once at each place."""
    turn = len(orders) % size if size else 0
    if not turn:
        return (rng or random).sample(range(size), size)
    base = list(orders[-turn])
    return base[turn:] + base[:turn]
