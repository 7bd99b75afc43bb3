"""A round that failed or was cancelled goes on where it was."""

import threading

import pytest
from django.db import IntegrityError, connection, transaction

from labelapp.models import Booking, Round
from labelapp.rounds import lease
from labelapp.rounds.actions import (
    RoundAlreadyActive,
    RoundNotResumable,
    queue_round,
    request_cancel,
    resume_round,
)
from labelapp.rounds.budget import BudgetRefused, book_round, booked_seconds
from tests.factories import make_project, make_user
from tests.rounds.material import queue_reward_round
from tests.rounds.processes import step_of
from tests.rounds.test_supervise import ENDLESS, supervise_in_thread
from tests.servers import wait_until

pytestmark = pytest.mark.django_db


@pytest.fixture
def project():
    return make_project(admin=make_user(), researcher=make_user(), labeler=make_user())


def end(round: Round, state: str, **why) -> None:
    with lease.fenced(lease.claim(round.pk, owner="test")) as held:
        lease.close(held, state, **why)
    round.refresh_from_db()


@pytest.mark.django_db(transaction=True)
def test_a_cancelled_round_goes_on_behind_its_last_saved_step():
    """Cancelled twice: a round that may end by itself might do so before it is told to stop."""
    round, reached = queue_reward_round(make_project(), steps=ENDLESS), []
    for more in (4, 8):
        supervising = supervise_in_thread(round)
        wait_until(lambda: step_of(round) >= (reached[-1] if reached else 0) + more)  # noqa: B023, asked at once
        request_cancel(round=round)
        supervising.join()
        round.refresh_from_db()
        assert round.state == "cancelled", round.error
        reached.append(round.stages.get().step)
        if len(reached) == 1:
            resume_round(round=round)
    first, second = round.events.filter(kind="stage_started").order_by("pk")
    assert not first.detail.get("resumed") and second.detail.get("resumed")
    assert reached[1] > reached[0] >= 4
    steps = round.stages.get().metric_rows.values_list("step", flat=True)
    assert sorted(steps) == list(range(1, reached[1] + 1))  # none is missing, none came twice


def test_a_failed_round_is_queued_with_new_attempts_and_without_its_error(project):
    round = queue_reward_round(project)
    Round.objects.filter(pk=round.pk).update(attempt=4)
    end(round, "failed", code="disk_full", error="No space.")
    resume_round(round=round, by=project.memberships.get(role="admin").user)
    assert (round.state, round.error, round.error_code, round.finished_at) == ("queued", "", "", None)
    assert (round.attempt, round.max_attempts) == (5, 10) and round.stages.get().state == "waiting"
    assert lease.claim(round.pk, owner="next").token == 2
    assert round.events.get(kind="resumed").by and round.events.filter(kind="failed").exists()


@pytest.mark.parametrize("state", ["queued", "running", "done"])
def test_others_are_not_resumed(project, state):
    round = queue_reward_round(project)
    if state == "running":
        lease.claim(round.pk, owner="test")
    elif state == "done":
        end(round, "done")
    with pytest.raises(RoundNotResumable, match=state):
        resume_round(round=round)
    assert not round.events.filter(kind="resumed").exists()


def test_a_project_trains_one_round_at_a_time_also_where_one_is_resumed(project):
    first = queue_reward_round(project)
    request_cancel(round=first)
    second = queue_round(project=project, kind="training", recipe={"name": "reward", "title": "Reward", "stages": []})
    with pytest.raises(RoundAlreadyActive) as refusal:
        resume_round(round=first)
    assert refusal.value.round == second
    first.refresh_from_db()
    assert first.state == "cancelled" and not first.events.filter(kind="resumed").exists()


@pytest.mark.django_db(transaction=True)
def test_of_four_admins_at_once_one_resumes_it():
    round = queue_reward_round(make_project())
    request_cancel(round=round)
    gate, said = threading.Barrier(4), []

    def run():
        gate.wait()
        try:
            said.append(resume_round(round=Round.objects.get(pk=round.pk)).state)
        except RoundNotResumable as refusal:
            said.append(type(refusal).__name__)
        connection.close()

    threads = [threading.Thread(target=run) for _ in range(4)]
    [thread.start() for thread in threads]
    [thread.join() for thread in threads]
    assert sorted(said) == ["RoundNotResumable"] * 3 + ["queued"]
    assert round.events.filter(kind="resumed").count() == 1


def test_each_end_books_what_ran_since_the_one_before(project):
    round = queue_reward_round(project)
    for seconds in (30, 50):
        claim = lease.claim(round.pk, owner="test")
        Round.objects.filter(pk=round.pk).update(device_time=f"{seconds} seconds")
        with lease.fenced(claim) as held:
            lease.close(held, "failed", code="disk_full", error="No space.")
        resume_round(round=round)
    assert [each.device_seconds for each in round.bookings.order_by("pk")] == pytest.approx([30, 20], abs=1)
    assert booked_seconds(round) == pytest.approx(50, abs=1)
    before = Booking.objects.count()
    book_round(round)
    assert Booking.objects.count() == before
    with pytest.raises(IntegrityError, match="one_booking_an_end"), transaction.atomic():
        newest = round.booking
        newest.pk = None
        newest.save(force_insert=True)


def test_a_budget_that_is_used_up_stops_it(project):
    round = queue_reward_round(project)
    end(round, "failed", code="disk_full", error="No space.")
    project.budget_device_hours = 0
    project.save()
    with pytest.raises(BudgetRefused):
        resume_round(round=round)


def test_the_page_resumes_it_for_admins_alone(client, project):
    round = queue_reward_round(project)
    end(round, "failed", code="disk_full", error="No space.")
    page, address = (f"/p/{project.slug}/rounds/{round.number}/{end}" for end in ("", "resume/"))
    stranger = make_user()
    make_project(admin=stranger)
    for person, status in [("researcher", 403), ("labeler", 403), (stranger, 404)]:
        client.force_login(project.memberships.get(role=person).user if isinstance(person, str) else person)
        assert client.post(address).status_code == status
    client.force_login(project.memberships.get(role="admin").user)
    assert address in client.get(page).content.decode()
    assert client.post(address).status_code == 302
    assert address not in client.get(page).content.decode()
    assert "only a failed or cancelled one" in client.post(address, follow=True).content.decode()
