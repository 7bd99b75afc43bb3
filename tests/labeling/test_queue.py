import random
import re
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from uuid import uuid4

import pytest
from django.db import connection, transaction
from django.utils import timezone

from labelapp.labeling.queue import (
    CLAIM,
    LEASE,
    claim_slot,
    claim_values,
    create_comparison,
    create_comparisons,
    display_orders,
    extend_lease,
)
from labelapp.labeling.refusals import UnusableComparison
from labelapp.models import Comparison, Judgment, Membership, Slot
from tests.factories import make_comparison, make_completion, make_project, make_prompt
from tests.labeling.conftest import claim_and_answer
from tests.servers import wait_until

RANDOM = Comparison.Origin.RANDOM


def expire(slot):
    Slot.objects.filter(pk=slot.pk).update(lease_until=timezone.now() - timedelta(seconds=1))


# Making comparisons


def test_a_comparison_gets_its_completions_in_order_and_a_slot_per_judgment(project):
    prompt = make_prompt(project)
    completions = [make_completion(prompt), make_completion(prompt)]

    made = create_comparison(
        project=project, prompt=prompt, completions=completions, origin=RANDOM, overlap=3, propensity=0.25
    )

    assert made.ordered_completions() == completions
    assert (made.overlap, made.propensity, made.protocol) == (3, 0.25, project.protocol_versions.get())
    assert [slot.number for slot in made.slots.order_by("number")] == [0, 1, 2]
    assert {slot.state for slot in made.slots.all()} == {"open"}


def test_the_project_says_how_many_judge_unless_the_comparison_does(labeler):
    project = make_project(overlap=2)
    prompt = make_prompt(project)
    completions = [make_completion(prompt), make_completion(prompt)]
    made = create_comparison(project=project, prompt=prompt, completions=completions, origin=RANDOM)
    assert (made.overlap, made.slots.count()) == (2, 2)


def test_the_same_content_is_queued_once(project):
    prompt = make_prompt(project)
    completions = [make_completion(prompt), make_completion(prompt)]
    first = create_comparison(project=project, prompt=prompt, completions=completions, origin=RANDOM)

    again = create_comparisons(project=project, items=[(prompt, completions)] * 2, origin=RANDOM, overlap=5)

    assert again == [first, first]
    assert (Comparison.objects.count(), Slot.objects.count()) == (1, 1)


def test_what_was_judged_elsewhere_takes_no_slots(project):
    prompt = make_prompt(project)
    completions = [make_completion(prompt), make_completion(prompt)]
    made = create_comparison(project=project, prompt=prompt, completions=completions, origin="import", slots=False)
    assert made.slots.count() == 0
    assert made.ordered_completions() == completions


def test_many_comparisons_cost_a_handful_of_statements(project, django_assert_max_num_queries):
    items = []
    for _ in range(30):
        prompt = make_prompt(project)
        items.append((prompt, [make_completion(prompt), make_completion(prompt)]))
    with django_assert_max_num_queries(10):
        made = create_comparisons(project=project, items=items, origin=RANDOM)
    assert [comparison.prompt for comparison in made] == [prompt for prompt, _ in items]


@pytest.mark.parametrize("number", [0, 1, 10])
def test_fewer_than_two_or_more_than_nine_completions_are_refused(project, number):
    prompt = make_prompt(project)
    completions = [make_completion(prompt) for _ in range(number)]
    with pytest.raises(UnusableComparison, match=f"has {number} completions to compare; give 2 to 9"):
        create_comparison(project=project, prompt=prompt, completions=completions, origin=RANDOM)


def test_equal_texts_are_refused_whoever_wrote_them(project):
    prompt = make_prompt(project)
    completions = [make_completion(prompt, "same", author="one"), make_completion(prompt, "same", author="two")]
    with pytest.raises(UnusableComparison, match="the same text"):
        create_comparison(project=project, prompt=prompt, completions=completions, origin=RANDOM)


def test_completions_of_another_prompt_and_prompts_of_another_project_are_refused(project):
    prompt, other = make_prompt(project), make_prompt(project)
    completions = [make_completion(prompt), make_completion(other)]
    with pytest.raises(UnusableComparison, match="answers another prompt"):
        create_comparison(project=project, prompt=prompt, completions=completions, origin=RANDOM)
    completions = [make_completion(prompt), make_completion(prompt)]
    with pytest.raises(UnusableComparison, match="not of project"):
        create_comparison(project=make_project(), prompt=prompt, completions=completions, origin=RANDOM)


def test_one_unusable_item_stores_none_of_them(project):
    prompt = make_prompt(project)
    good = [make_completion(prompt), make_completion(prompt)]
    with pytest.raises(UnusableComparison):
        create_comparisons(project=project, items=[(prompt, good), (prompt, good[:1])], origin=RANDOM)
    assert Comparison.objects.count() == 0


def test_display_orders_are_counter_balanced_and_start_at_random():
    rng = random.Random(0)
    for _ in range(20):
        orders = display_orders(size=2, count=4, rng=rng)
        assert Counter(map(tuple, orders)) == {(0, 1): 2, (1, 0): 2}
        of_four = display_orders(size=4, count=4, rng=rng)
        assert all(sorted(place) == [0, 1, 2, 3] for place in zip(*of_four, strict=True))
    starts = Counter(tuple(display_orders(size=2, count=1, rng=rng)[0]) for _ in range(400))
    assert 140 < starts[0, 1] < 260  # 6 standard deviations around 200


# Handing out


def test_a_claim_leases_a_slot_for_ten_minutes(project, labeler):
    make_comparison(project)
    slot = claim_slot(project=project, labeler=labeler)
    assert (slot.state, slot.labeler) == ("leased", labeler)
    assert slot.claim_token
    assert timedelta(0) < slot.lease_until - timezone.now() <= LEASE


def test_an_empty_queue_hands_out_nothing(project, labeler):
    assert claim_slot(project=project, labeler=labeler) is None


def test_a_reload_brings_the_same_item_under_the_same_claim(project, labeler):
    make_comparison(project)
    make_comparison(project)
    first, again = (claim_slot(project=project, labeler=labeler) for _ in range(2))
    assert (again.pk, again.claim_token) == (first.pk, first.claim_token)
    assert Slot.objects.filter(state="leased").count() == 1


def test_two_labelers_never_hold_one_slot(project, labeler, join):
    make_comparison(project)
    assert claim_slot(project=project, labeler=labeler)
    assert claim_slot(project=project, labeler=join()) is None


def test_a_person_gets_one_slot_of_a_comparison_only(project, labeler):
    make_comparison(project, overlap=3)
    claim_and_answer(project, labeler)
    assert claim_slot(project=project, labeler=labeler) is None


def test_a_lease_that_ran_out_goes_to_the_next_who_asks(project, labeler, join):
    make_comparison(project)
    old = claim_slot(project=project, labeler=labeler)
    expire(old)

    new = claim_slot(project=project, labeler=join())

    assert new.pk == old.pk
    assert new.claim_token != old.claim_token
    assert claim_slot(project=project, labeler=labeler) is None


def test_a_lease_that_ran_out_and_that_nobody_took_is_still_its_holders(project, labeler):
    make_comparison(project)
    old = claim_slot(project=project, labeler=labeler)
    expire(old)
    again = claim_slot(project=project, labeler=labeler)
    assert again.claim_token == old.claim_token
    assert again.lease_until > timezone.now()


@pytest.mark.django_db(transaction=True)
def test_a_second_tab_that_reaches_the_same_comparison_at_once_gets_the_first_tabs_slot(project, labeler):
    make_comparison(project, overlap=2)
    with ThreadPoolExecutor(1) as second_tab:
        with transaction.atomic():
            first = claim_slot(project=project, labeler=labeler)  # seen by nobody else before the commit
            claimed = second_tab.submit(claim_in_a_thread, project, labeler)
            wait_until(somebody_waits, what="the second claim at the unique index")
        assert claimed.result().pk == first.pk
    assert Slot.objects.filter(state="leased").count() == 1


def claim_in_a_thread(project, labeler):
    try:
        return claim_slot(project=project, labeler=labeler)
    finally:
        connection.close()


def somebody_waits():
    with connection.cursor() as cursor:
        cursor.execute("SELECT count(*) FROM pg_locks WHERE NOT granted AND locktype = 'transactionid'")
        return cursor.fetchone()[0]


def test_lower_priorities_come_first(project, labeler):
    later, sooner = make_comparison(project), make_comparison(project)
    later.slots.update(priority=1)
    assert claim_slot(project=project, labeler=labeler).comparison == sooner


def test_slots_of_another_project_are_not_handed_out(project, labeler):
    make_comparison(make_project(labeler=labeler))
    assert claim_slot(project=project, labeler=labeler) is None


def test_a_heartbeat_extends_only_the_holders_lease(project, labeler, join):
    make_comparison(project)
    slot = claim_slot(project=project, labeler=labeler)
    expire(slot)
    mine = {"slot_id": slot.pk, "labeler": labeler, "claim_token": slot.claim_token}
    assert not extend_lease(**mine | {"labeler": join()})
    assert not extend_lease(**mine | {"claim_token": uuid4()})
    assert extend_lease(**mine)
    slot.refresh_from_db()
    assert slot.lease_until > timezone.now()


def test_the_claim_walks_the_queue_index_and_not_the_primary_key(project, labeler):
    """Measured elsewhere: with ORDER BY id the planner walked the primary key and filtered 12,387 rows."""
    prompt = make_prompt(project)
    protocol = project.protocol_versions.get()
    made = Comparison.objects.bulk_create(
        Comparison(project=project, prompt=prompt, protocol=protocol, content_hash=str(n)) for n in range(4000)
    )
    Slot.objects.bulk_create(
        Slot(
            comparison=comparison, project=project, number=0, shuffle_key=-n, display_order=[0, 1],
            **({} if n % 2 else {"state": "done", "labeler": labeler}),
        )
        for n, comparison in enumerate(made)
    )
    Judgment.objects.bulk_create(
        Judgment(
            comparison=comparison, labeler=labeler, protocol=protocol, submission_id=uuid4(), ranking=[[0, 1]]
        )
        for comparison in made[::2]
    )
    Membership.objects.update(shuffle_start=-(2**31))
    with connection.cursor() as cursor:
        cursor.execute("ANALYZE labelapp_slot, labelapp_comparison, labelapp_judgment")
        values = claim_values(project=project, labeler=labeler)
        cursor.execute(f"EXPLAIN (ANALYZE, FORMAT TEXT) {CLAIM} SELECT * FROM claimed", values)
        plan = "\n".join(line for (line,) in cursor.fetchall())
    assert "Index Scan using slot_queue on labelapp_slot next" in plan
    # Projects and memberships may be so few that reading them all is quickest.
    assert not re.search(r"Seq Scan on labelapp_(slot|comparison|judgment|skip)\b.*\(actual", plan)
    # What the labeler holds, and what is reserved for them: a handful of rows each. All that is left was not looked at.
    sorts = re.findall(r"Sort  \([^)]*\) \(actual.*\n\s*Sort Key: (.*)", plan)
    assert set(sorts) <= {"own.lease_until DESC", "due.id"}
