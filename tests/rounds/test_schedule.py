"""Rounds that begin by themselves, and what their judgments moved."""

import threading
from datetime import timedelta

import pytest
from django.db import connection
from django.utils import timezone

from labelapp.models import AuditMetric, Round, Schedule
from labelapp.rounds import moved, schedule
from labelapp.rounds.actions import request_cancel
from tests.datasets.rows import vote
from tests.factories import make_project, make_user
from tests.rounds.material import make_parent
from tests.rounds.test_pages import finish
from tests.site.filled import SPLITS

pytestmark = pytest.mark.django_db


@pytest.fixture
def project():
    return make_project(admin=make_user(), labeler=make_user(), researcher=make_user())


def judge(project, count: int = 1) -> None:
    """So many comparisons with one vote each, in both splits."""
    made = project.comparisons.count()
    for number in range(made, made + count):
        vote(project, "a", group=SPLITS[("train", "test")[number % 2]], prompt=f"Argue for number {number}.")


def arrange(project, **fields) -> Schedule:
    row = Schedule(project=project, recipe="reward", enabled=True, **fields)
    schedule.save(row, by=project.memberships.get(role="admin").user)
    row.refresh_from_db()
    return row


def test_nothing_begins_before_enough_judgments_and_then_one_round(project):
    make_parent(project)
    row = arrange(project, every_judgments=4)
    judge(project, 3)
    schedule.tick()
    assert not Round.objects.exists()
    judge(project)
    schedule.tick()
    schedule.tick()
    round = Round.objects.get()
    row.refresh_from_db()
    assert round.recipe["name"] == "reward" and round.snapshot.judgments == 4
    assert (row.last_round, row.seen_judgments, row.busy_until) == (round, 4, None)
    assert round.events.get().detail["why"] == "4 new judgments" in row.outcome


def test_what_came_before_the_schedule_does_not_count(project):
    make_parent(project)
    judge(project, 6)
    arrange(project, every_judgments=6)
    schedule.tick()
    assert not Round.objects.exists()


def test_the_clock_is_asked_and_a_missed_time_is_made_up_once(project):
    make_parent(project)
    judge(project, 4)
    row = arrange(project, cron="0 3 * * *")
    schedule.tick()
    assert not Round.objects.exists()  # three o'clock has not come since
    Schedule.objects.update(looked_at=timezone.now() - timedelta(days=3))
    schedule.tick()
    row.refresh_from_db()
    assert Round.objects.count() == 1 and row.looked_at > timezone.now() - timedelta(minutes=1)
    assert schedule.next_time(row).hour == 3


def test_a_round_under_way_is_waited_for_and_equal_judgments_are_not_learnt_twice(project):
    make_parent(project)
    row = arrange(project, every_judgments=2)
    judge(project, 2)
    schedule.tick()
    judge(project, 2)
    schedule.tick()
    assert Round.objects.count() == 1
    request_cancel(round=Round.objects.get())
    schedule.tick()
    assert Round.objects.count() == 2
    request_cancel(round=Round.objects.first())
    Schedule.objects.update(cron="0 3 * * *", looked_at=timezone.now() - timedelta(days=2))
    schedule.tick()
    row.refresh_from_db()
    assert Round.objects.count() == 2 and "No judgment has changed since round 2" in row.outcome


def test_a_refusal_is_a_sentence_and_tried_again_when_next_due(project):
    row = arrange(project, every_judgments=2)
    judge(project, 2)
    schedule.tick()  # no policy
    row.refresh_from_db()
    assert "no policy to start from" in row.outcome and not Round.objects.exists()
    make_parent(project)
    schedule.tick()
    assert not Round.objects.exists()
    judge(project, 2)
    schedule.tick()
    assert Round.objects.count() == 1


def test_a_worker_lost_while_freezing_is_followed_by_another(project):
    make_parent(project)
    row = arrange(project, every_judgments=2)
    judge(project, 2)
    assert schedule.claim(row)
    schedule.tick()
    assert not Round.objects.exists()
    Schedule.objects.update(busy_until=timezone.now() - timedelta(seconds=1))
    schedule.tick()
    assert Round.objects.count() == 1


@pytest.mark.faults
@pytest.mark.services
@pytest.mark.django_db(transaction=True)
def test_of_eight_beats_one_launches(project):
    make_parent(project)
    arrange(project, every_judgments=2)
    judge(project, 2)
    gate = threading.Barrier(8)

    def beat():
        gate.wait()
        try:
            schedule.tick()
        finally:
            connection.close()

    threads = [threading.Thread(target=beat) for _ in range(8)]
    [thread.start() for thread in threads]
    [thread.join() for thread in threads]
    assert Round.objects.count() == 1
    assert Schedule.objects.get().last_round == Round.objects.get()


@pytest.mark.parametrize(
    ("given", "field"),
    [
        ({"enabled": "on"}, "every_judgments"),
        ({"cron": "at three"}, "cron"),
        ({"cron": "99 3 * * *"}, "cron"),
        ({"further": "reward.nonsense=1"}, "further"),
        ({"every_judgments": "-4"}, "every_judgments"),
    ],
)
def test_the_page_says_what_it_cannot_take(client, project, given, field):
    client.force_login(project.memberships.get(role="admin").user)
    answer = client.post(f"/p/{project.slug}/rounds/schedule/", {"recipe": "reward"} | given)
    assert answer.status_code == 422 and answer.context["form"].errors[field]
    assert not Schedule.objects.exists()


def test_the_page_saves_and_says_how_far_it_is(client, project):
    client.force_login(project.memberships.get(role="admin").user)
    address = f"/p/{project.slug}/rounds/schedule/"
    given = {"enabled": "on", "every_judgments": "500", "cron": "0  3 * * 1", "recipe": "grpo"}
    assert client.post(address, given).status_code == 302
    judge(project, 3)
    page = client.get(address).content.decode()
    assert "3 of 500 new judgments are there" in page and "Monday" in page
    assert client.post(address, given | {"enabled": ""}).status_code == 302
    assert not Schedule.objects.get().enabled


@pytest.mark.parametrize(("role", "status"), [("researcher", 403), ("labeler", 403), (None, 404)])
def test_only_admins_arrange(client, project, role, status):
    client.force_login(project.memberships.get(role=role).user if role else make_user())
    for method in (client.get, client.post):
        assert method(f"/p/{project.slug}/rounds/schedule/").status_code == status


def test_the_second_rounds_judgments_are_measured_beside_the_first_and_told(client, project):
    make_parent(project)
    arrange(project, every_judgments=2)
    judge(project, 2)
    schedule.tick()
    finish(Round.objects.get())
    assert moved.in_words(moved.points_of(project)) == ""  # nothing to compare with yet
    judge(project, 4)
    schedule.tick()
    second = Round.objects.first()
    first = second.project.versions.get(kind="reward")
    inputs = next(spec["inputs"] for spec in second.recipe["stages"] if spec["name"] == "evaluate")
    assert inputs["reward_champion"] == f"version:{first.pk}"
    finish(second, reward_accuracy={"value": 0.7}, reward_accuracy_change={"value": 0.02, "low": -0.01, "high": 0.05})
    words = moved.in_words(moved.points_of(project))
    assert "Round 2 learnt from 4 more judgments than round 1" in words and "so little may be chance" in words
    client.force_login(project.memberships.get(role="labeler").user)
    assert "70.0 %" in client.get(f"/p/{project.slug}/label/summary/").content.decode()
    client.force_login(project.memberships.get(role="researcher").user)
    page = client.get(f"/p/{project.slug}/rounds/").content.decode()
    assert "What the judgments moved" in page and page.count("<circle") == 2 and "+2.0 [−1.0, 5.0]" in page
    assert "known to within 3.0 points: to see one point takes about 54 judgments; there are 6." in page  # 6 x 3^2


def test_where_one_point_can_be_seen_nothing_more_is_asked_for():
    def point(half, judgments):
        change = AuditMetric(value=0.0, low=-half, high=half)
        return moved.Point(Round(number=3), judgments, 0.7, None, None, change)

    assert "one point would be seen" in moved.next_point([point(0.008, 9000)])
    assert "about 52,000 judgments; there are 9,977." in moved.next_point([point(0.0228, 9977)])  # x 5.198
    assert moved.next_point([]) == moved.next_point([point(0.0, 9000)]) == ""
