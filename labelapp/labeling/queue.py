"""The queue: comparisons go in, slots are handed out. Postgres decides who gets what."""

import random
from collections.abc import Iterable, Sequence
from datetime import timedelta

from django.db import IntegrityError, transaction
from django.db.models.functions import Now

from labelapp.labeling.refusals import UnusableComparison
from labelapp.models import (
    Comparison,
    ComparisonCompletion,
    Completion,
    Project,
    Prompt,
    ProtocolVersion,
    Slot,
)

LEASE = timedelta(minutes=10)
MOST = 9  # completions in a comparison
TRIES = 5  # of a claim that lost a race against the same person's other tab

# One statement. What the labeler holds already comes first, so that reloads and second tabs do not hoard; waiting for
# its lock (no SKIP LOCKED) lets a submit in the other tab finish. Else the next slot that is open, or whose lease has
# run out, of a comparison that this person neither holds nor has judged. Ordering by columns that only the partial
# index has keeps the planner from walking the primary key.
CLAIM = """
UPDATE labelapp_slot SET
  claim_token = CASE WHEN labeler_id = %(labeler)s THEN claim_token ELSE gen_random_uuid() END,
  state = 'leased', labeler_id = %(labeler)s, lease_until = statement_timestamp() + %(lease)s
WHERE id = COALESCE(
  (SELECT own.id FROM labelapp_slot own
   WHERE own.labeler_id = %(labeler)s AND own.state = 'leased' AND own.project_id = %(project)s
   ORDER BY own.lease_until DESC LIMIT 1 FOR UPDATE),
  (SELECT next.id FROM labelapp_slot next
   WHERE next.project_id = %(project)s AND next.state IN ('open', 'leased')
     AND (next.state = 'open' OR next.lease_until < statement_timestamp())
     AND NOT EXISTS (SELECT FROM labelapp_slot mine WHERE mine.comparison_id = next.comparison_id
                     AND mine.labeler_id = %(labeler)s AND mine.state IN ('leased', 'done'))
     AND NOT EXISTS (SELECT FROM labelapp_judgment mine WHERE mine.comparison_id = next.comparison_id
                     AND mine.labeler_id = %(labeler)s)
   ORDER BY next.priority, next.shuffle_key LIMIT 1 FOR UPDATE OF next SKIP LOCKED))
RETURNING *
"""


def claim_slot(*, project: Project, labeler) -> Slot | None:
    """Lease the labeler's next slot in the project for ten minutes of the database's clock; None if there is none.

    Call it outside a transaction: a lost race is a unique violation, after which it tries again.
    """
    values = {"project": project.pk, "labeler": labeler.pk, "lease": LEASE}
    for attempt in range(1, TRIES + 1):
        try:
            return next(iter(Slot.objects.raw(CLAIM, values)), None)
        except IntegrityError as error:
            # Two tabs reached two slots of one comparison at once: SKIP LOCKED lets that pass, the constraint does not.
            if "one_slot_per_labeler_and_comparison" not in str(error) or attempt == TRIES:
                raise


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
    priority: int = 0,
    rng: random.Random | None = None,
    slots: bool = True,
) -> list[Comparison]:
    """Queue comparisons and return them in the order given; content the project has already is not queued again.

    Args:
        overlap: how many different people judge each; the project's by default.
        slots: False for what was judged elsewhere and is in nobody's queue.

    Raises:
        UnusableComparison: fewer than 2 or more than 9 completions, two with the same text, a completion of another
            prompt, a prompt of another project, or a project without a protocol. Then nothing is stored.
    """
    wanted = [(_content_hash(project, prompt, completions), prompt, completions) for prompt, completions in items]
    overlap = project.overlap if overlap is None else overlap
    with transaction.atomic():
        # One creator at a time in a project: what is found missing below is still missing when it is inserted.
        Project.objects.select_for_update(no_key=True).get(pk=project.pk)
        rows = {row.content_hash: row for row in project.comparisons.filter(content_hash__in=[w[0] for w in wanted])}
        missing = {key: (prompt, texts) for key, prompt, texts in wanted if key not in rows}
        if missing:
            shared = {"project": project, "protocol": _protocol(project), "overlap": overlap, "origin": origin}
            shared |= {"round": round, "propensity": propensity}
            new = [Comparison(prompt=prompt, content_hash=key, **shared) for key, (prompt, _) in missing.items()]
            rows |= {row.content_hash: row for row in Comparison.objects.bulk_create(new, batch_size=1000)}
            _place_completions(new, [completions for _, completions in missing.values()])
            if slots:
                _open_slots(new, [len(c) for _, c in missing.values()], priority, rng or random.Random())
    return [rows[key] for key, *_ in wanted]


def display_orders(*, size: int, count: int, rng: random.Random) -> list[list[int]]:
    """`count` orders of `size` positions: random, and in every `size` of them each position is once at each place."""
    orders = []
    for number in range(count):
        turn = number % size
        base = base if turn else rng.sample(range(size), size)  # noqa: F821 - bound in the first turn
        orders.append(base[turn:] + base[:turn])
    return orders


def _content_hash(project: Project, prompt: Prompt, completions: Sequence[Completion]) -> str:
    if not 2 <= len(completions) <= MOST:
        raise UnusableComparison(f"prompt {prompt.pk} has {len(completions)} completions to compare; give 2 to {MOST}")
    if len({completion.content_hash for completion in completions}) < len(completions):
        raise UnusableComparison(f"prompt {prompt.pk}: two completions have the same text; drop one of them")
    if strangers := [completion.pk for completion in completions if completion.prompt_id != prompt.pk]:
        raise UnusableComparison(f"completion {strangers[0]} answers another prompt than {prompt.pk}; compare its own")
    if prompt.project_id != project.pk:
        raise UnusableComparison(f"prompt {prompt.pk} is not of project {project.slug}; import it there first")
    return Comparison.hash_of(prompt, completions)


def _protocol(project: Project) -> ProtocolVersion:
    latest = project.protocol_versions.last()
    if latest is None:
        raise UnusableComparison(f"project {project.slug} has no protocol; add one that says what is asked")
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
            )
            for comparison, size in zip(comparisons, sizes, strict=True)
            for number, order in enumerate(display_orders(size=size, count=comparison.overlap, rng=rng))
        ],
        batch_size=1000,
    )
