"""The queue: comparisons go in, slots are handed out. Postgres decides who gets what."""

import random
from collections.abc import Callable, Iterable, Sequence
from datetime import timedelta
from typing import TypeVar

from django.db import IntegrityError, connection, transaction
from django.db.models.functions import Now
from django.utils.translation import gettext

from labelapp.labeling.next_slot import CLAIM
from labelapp.labeling.protocol import Protocol, parse
from labelapp.labeling.refusals import UnusableComparison
from labelapp.models import (
    Batch,
    Comparison,
    ComparisonCompletion,
    Completion,
    Project,
    Prompt,
    ProtocolVersion,
    Slot,
)
from labelapp.models.prepared import as_instance, columns, read_rows

T = TypeVar("T")
LEASE = timedelta(minutes=10)
TRIES = 5
RACES = ("one_slot_per_labeler_and_comparison", "one_first_judgment_per_labeler", "submission_id", "replaces_id")


def claim_values(*, project: Project, labeler, holding: Sequence[int] = ()) -> dict:
    """Parameters of CLAIM. What is claimed ahead of time is leased for half as long: nobody works on it yet."""
    first = LEASE / 2 if holding else LEASE
    values = {"project": project.pk, "labeler": labeler.pk, "holding": list(holding)}
    return values | {"lease": LEASE, "first_lease": first}


def claim_slot(*, project: Project, labeler, holding: Sequence[int] = ()) -> Slot | None:
    """Lease the labeler's next slot in the project for ten minutes of the database's clock; None if there is none.

    holding: ids of slots they have before them already.
    """
    values = claim_values(project=project, labeler=labeler, holding=holding)
    query = f"{CLAIM} SELECT {columns(Slot, 'claimed')} FROM claimed"
    return claiming(lambda: next((as_instance(Slot, row) for row in read_rows(query, values)), None))


def claiming(work: Callable[[], T]) -> T:
    """What `work` returns, done again from the start where it lost a race against the same person's other request.

    Two tabs may reach two slots of one comparison at once, or send one answer twice: what SKIP LOCKED and a look
    beforehand let pass, the unique constraint does not. Done again it sees what the other one did. Inside of a
    transaction there is nothing to do again: whoever began it does.
    """
    if connection.in_atomic_block:
        return work()
    for attempt in range(1, TRIES + 1):
        try:
            with transaction.atomic():
                return work()
        except IntegrityError as error:
            if attempt == TRIES or not any(name in str(error) for name in RACES):
                raise
    raise AssertionError("unreachable")


def extend_lease(*, slot_id: int, labeler, claim_token) -> bool:
    """Give the holder ten more minutes; False where the slot is no longer theirs."""
    held = Slot.objects.filter(pk=slot_id, labeler=labeler, claim_token=claim_token, state=Slot.State.LEASED)
    return held.update(lease_until=Now() + LEASE) == 1


def create_comparison(
    *, project: Project, prompt: Prompt, completions: Sequence[Completion], origin: str, **more
) -> Comparison:
    """Queue one comparison, or return the one with this content. Takes and raises what create_comparisons does."""
    return create_comparisons(project=project, items=[(prompt, completions)], origin=origin, **more)[0]


def create_comparisons(
    *,
    project: Project,
    items: Iterable[tuple[Prompt, Sequence[Completion]]],
    origin: str,
    overlap: int | None = None,
    round=None,
    propensity: float | None = None,
    propensities: Sequence[float] = (),
    priority: int = 0,
    rng: random.Random | None = None,
    slots: bool = True,
    batch: Batch | None = None,
    requires: Sequence[str] = (),
    checked: bool = True,
) -> list[Comparison]:
    """Queue comparisons and return them in the order given; content the project has already is not queued again.

    Args:
        overlap: how many different people judge each; the project's by default.
        propensities: of each item, where they differ.
        slots: False for what was judged elsewhere and is in nobody's queue.
        batch: its priority counts where none is given. requires: tags that a labeler must have.
        checked: False for pairs that nobody will be asked about, whatever the protocol asks.

    Raises:
        UnusableComparison: a number of completions that the protocol cannot ask about, two with the same text, a
            completion of another prompt, a prompt of another project, or a project without a protocol. Then nothing
            is stored.
    """
    latest = _protocol(project)
    protocol = parse(latest.definition)
    items = list(items)
    for prompt, completions in items if checked else ():
        _check_size(protocol, prompt, completions)
    priority = priority or (batch.priority if batch else 0)
    wanted = [(_content_hash(project, prompt, completions), prompt, completions) for prompt, completions in items]
    overlap = project.overlap if overlap is None else overlap
    with transaction.atomic():
        # One creator at a time in a project: what is found missing below is still missing when it is inserted.
        project.lock()
        rows = {row.content_hash: row for row in project.comparisons.filter(content_hash__in=[w[0] for w in wanted])}
        missing = {key: (prompt, texts) for key, prompt, texts in wanted if key not in rows}
        if missing:
            shared = {"project": project, "protocol": latest, "overlap": overlap, "origin": origin}
            shared |= {"round": round, "propensity": propensity, "batch": batch, "requires": list(requires)}
            odds = {key: odd for (key, *_), odd in zip(wanted, propensities, strict=False)}
            new = [
                Comparison(prompt=prompt, content_hash=key, **shared | ({"propensity": odds[key]} if odds else {}))
                for key, (prompt, _) in missing.items()
            ]
            rows |= {row.content_hash: row for row in Comparison.objects.bulk_create(new, batch_size=1000)}
            _place_completions(new, [completions for _, completions in missing.values()])
            if slots:
                _open_slots(new, [len(c) for _, c in missing.values()], priority, rng or random.Random())
                project.look_again()
    return [rows[key] for key, *_ in wanted]


def display_orders(*, size: int, count: int, rng: random.Random) -> list[list[int]]:
    """`count` orders of `size` positions: random, and in every `size` of them each position is once at each place."""
    orders: list[list[int]] = []
    if not size:
        return [[] for _ in range(count)]
    for number in range(count):
        turn = number % size
        base = base if turn else rng.sample(range(size), size)  # noqa: F821 - bound in the first turn
        orders.append(base[turn:] + base[:turn])
    return orders


def _check_size(protocol: Protocol, prompt: Prompt, completions: Sequence[Completion]) -> None:
    sizes = protocol.sizes
    if len(completions) not in sizes:
        allowed = f"give {sizes[0]} to {sizes[-1]}" if len(sizes) > 1 else "give none: the labeler writes the answer"
        raise UnusableComparison(
            gettext("prompt %(prompt)s has %(count)s completions to compare; %(allowed)s")
            % {"prompt": prompt.pk, "count": len(completions), "allowed": allowed}
        )


def _content_hash(project: Project, prompt: Prompt, completions: Sequence[Completion]) -> str:
    if len({completion.content_hash for completion in completions}) < len(completions):
        raise UnusableComparison(
            gettext("prompt %(prompt)s: two completions have the same text; drop one of them")
            % {"prompt": prompt.pk}
        )
    if strangers := [completion.pk for completion in completions if completion.prompt_id != prompt.pk]:
        raise UnusableComparison(
            gettext("completion %(strangers)s answers another prompt than %(prompt)s; compare its own")
            % {"strangers": strangers[0], "prompt": prompt.pk}
        )
    if prompt.project_id != project.pk:
        raise UnusableComparison(
            gettext("prompt %(prompt)s is not of project %(slug)s; import it there first")
            % {"prompt": prompt.pk, "slug": project.slug}
        )
    return Comparison.hash_of(prompt, completions)


def _protocol(project: Project) -> ProtocolVersion:
    latest = project.protocol_versions.last()
    if latest is None:
        raise UnusableComparison(
            gettext("project %(slug)s has no protocol; add one that says what is asked") % {"slug": project.slug}
        )
    return latest


def _place_completions(comparisons: list[Comparison], completions: list[Sequence[Completion]]) -> None:
    ComparisonCompletion.objects.bulk_create(
        [
            ComparisonCompletion(comparison=comparison, completion=completion, position=position)
            for comparison, row in zip(comparisons, completions, strict=True)
            for position, completion in enumerate(row)
        ],
        batch_size=1000,
    )


def _open_slots(comparisons: list[Comparison], sizes: list[int], priority: int, rng: random.Random) -> None:
    Slot.objects.bulk_create(
        [
            Slot(
                comparison=comparison,
                project_id=comparison.project_id,
                number=number,
                priority=priority,
                shuffle_key=rng.randrange(-(2**31), 2**31),
                display_order=order,
                requires=comparison.requires,
            )
            for comparison, size in zip(comparisons, sizes, strict=True)
            for number, order in enumerate(display_orders(size=size, count=comparison.overlap, rng=rng))
        ],
        batch_size=1000,
    )
