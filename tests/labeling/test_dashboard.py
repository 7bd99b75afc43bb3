"""The admin's view of the labeling: who sees it, what is counted when, and that a request counts no big table."""

import re
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal

import pytest
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from labelapp.labeling.actions import undo_last
from labelapp.labeling.overview import counting as queue_health
from labelapp.labeling.overview.charts import by_day
from labelapp.labeling.overview.counting import recount_soon, refresh_all
from labelapp.labeling.overview.figures import read_dashboard
from labelapp.labeling.overview.pace import Pace, cost_of, finish_of, pace_of, standing
from labelapp.labeling.quality.gold import make_gold
from labelapp.labeling.quality.places import add_slot
from labelapp.labeling.queue import claim_slot
from labelapp.labeling.skips import skip_item
from labelapp.models import (
    Batch,
    LabelerPace,
    Membership,
    Project,
    QueueHealth,
    Slot,
    WorkDay,
    WorkHour,
)
from labelapp.tasks import count_queues
from tests.factories import add_member, make_comparison, make_user
from tests.labeling.conftest import claim_and_answer, shown

PAGE = "/p/convincing/labeling/"
NOW = datetime(2026, 5, 20, 12, 0, tzinfo=UTC)
TODAY = NOW.date()


@pytest.fixture
def admin(project):
    user = make_user("adm")
    add_member(project, user, "admin")
    return user


def health(project) -> QueueHealth:
    return QueueHealth.objects.get(project=project, batch=None)


# Who may


@pytest.mark.parametrize(("role", "status"), [("labeler", 403), ("reviewer", 403), ("researcher", 200), ("admin", 200)])
def test_researchers_and_admins_see_the_page(client, project, join, role, status):
    client.force_login(join(role=role))
    assert client.get(PAGE).status_code == status


def test_a_stranger_learns_nothing_and_nobody_posts(client, project, admin):
    assert Client().get(PAGE).url.startswith("/accounts/login/")
    client.force_login(make_user())
    assert client.get(PAGE).status_code == 404
    client.force_login(admin)
    assert client.post(PAGE).status_code == 405


def test_the_navigation_leads_there(client, project, admin):
    client.force_login(admin)
    assert f'href="{PAGE}"' in client.get("/p/convincing/").content.decode()


# Counting


def test_the_queue_is_counted(project, labeler):
    for _ in range(4):
        make_comparison(project)
    claim_slot(project=project, labeler=labeler)
    assert refresh_all() == 1
    row = health(project)
    assert (row.open, row.leased, row.lapsed, row.waiting) == (3, 1, 0, 4)
    assert row.oldest_open_at == Slot.objects.filter(state="open").order_by("pk").first().comparison.created_at
    Slot.objects.filter(state="leased").update(lease_until=timezone.now() - timedelta(minutes=1))
    refresh_all()
    row.refresh_from_db()
    assert (row.open, row.leased, row.lapsed) == (3, 0, 1)


def test_what_waits_for_one_person_is_counted_apart(project, labeler):
    comparison = make_comparison(project)
    Slot.objects.create(
        project=project, comparison=comparison, number=7, shuffle_key=1, display_order=[0, 1], purpose="gold",
        reserved_for=labeler,
    )  # fmt: skip
    refresh_all()
    assert (health(project).open, health(project).reserved) == (1, 1)


def test_without_change_nothing_is_counted_again(project, labeler, monkeypatch):
    make_comparison(project), make_comparison(project)
    refresh_all()
    monkeypatch.setattr(queue_health, "count", lambda *_: pytest.fail("counted"))
    assert refresh_all() == 0
    first = health(project).checked_at
    refresh_all()
    assert health(project).checked_at > first


@pytest.mark.parametrize("change", ["judge", "undo", "skip", "new", "told"])
def test_a_change_is_counted(project, labeler, change):
    for _ in range(3):
        make_comparison(project)
    if change == "undo":
        claim_and_answer(project, labeler)
    refresh_all()
    QueueHealth.objects.update(count_seconds=0)
    if change == "judge":
        claim_and_answer(project, labeler)
    elif change == "undo":
        undo_last(project=project, labeler=labeler)
    elif change == "skip":
        claim = shown(claim_slot(project=project, labeler=labeler))
        skip_item(project=project, labeler=labeler, claim=claim, reason="unsure")
    elif change == "new":
        make_comparison(project)
    else:
        recount_soon(project)
    assert refresh_all() == 1
    assert health(project).waiting == {"judge": 2, "undo": 3, "skip": 3, "new": 4, "told": 3}[change]


def test_a_count_that_took_long_is_repeated_rarely(project, labeler):
    make_comparison(project)
    refresh_all()
    QueueHealth.objects.update(count_seconds=4.0)
    make_comparison(project)
    assert refresh_all() == 0
    QueueHealth.objects.update(counted_at=timezone.now() - timedelta(seconds=201))
    assert refresh_all() == 1


def test_an_hour_later_everything_is_counted_whatever_the_mark_says(project):
    make_comparison(project)
    refresh_all()
    QueueHealth.objects.update(counted_at=timezone.now() - timedelta(minutes=61))
    assert refresh_all() == 1


def test_batches_are_counted_and_their_emptying_too(project, labeler):
    batch = Batch.objects.create(project=project, name="urgent")
    make_comparison(project, batch=batch), make_comparison(project)
    refresh_all()
    row = QueueHealth.objects.get(batch=batch)
    assert (row.waiting, row.done) == (1, 0)
    batch.comparisons.update(batch=None)
    recount_soon(project)
    refresh_all()
    row.refresh_from_db()
    assert row.waiting == 0


def test_hours_count_what_stands_and_not_what_was_revised(project, labeler):
    for _ in range(3):
        make_comparison(project)
    claim_and_answer(project, labeler), claim_and_answer(project, labeler)
    undo_last(project=project, labeler=labeler)
    refresh_all()
    assert sum(WorkHour.objects.filter(project=project).values_list("judged", flat=True)) == 1
    claim_and_answer(project, labeler)
    QueueHealth.objects.update(count_seconds=0)
    refresh_all()
    assert sum(WorkHour.objects.filter(project=project).values_list("judged", flat=True)) == 2


def test_hours_of_a_time_without_worker_are_made_up_for(project, labeler):
    make_comparison(project)
    WorkHour.objects.create(project=project, hour=timezone.now() - timedelta(days=3), judged=9)
    claim_and_answer(project, labeler)
    refresh_all()
    assert sorted(WorkHour.objects.values_list("judged", flat=True)) == [1, 9]


def test_paces_are_medians_of_active_seconds(project, labeler):
    for seconds in (4.0, 8.0, 60.0):
        make_comparison(project)
        claim_and_answer(project, labeler, strength=1, active_seconds=seconds)
    refresh_all()
    pace = LabelerPace.objects.get()
    assert (pace.seconds_today, pace.seconds_week) == (8.0, 8.0)


def test_gold_and_repeats_are_counted_for_each_labeler(client, project, labeler, admin):
    gold = make_comparison(project)
    make_gold(gold, gold=[[0], [1]])
    add_slot(gold, purpose="gold", reserved_for=labeler)
    claim_and_answer(project, labeler, strength=-1)
    refresh_all()
    person = next(person for person in read_dashboard(project).people if person.name == "lena")
    assert (person.right.n, person.same.n) == (1, 0)
    client.force_login(admin)
    assert f"({person.right.hits}/1)" in client.get(PAGE).content.decode()


def test_the_count_of_what_waits_reads_only_the_queues_index(project):
    make_comparison(project)
    with connection.cursor() as cursor:
        # On a table as small as a test's, the planner's choice between indexes is a toss-up: only the one remains.
        cursor.execute("SET CONSTRAINTS ALL IMMEDIATE")
        cursor.execute("DROP INDEX " + ", ".join(other_indexes(cursor, "labelapp_slot", keep="slot_queue")))
        for way in ("seqscan", "bitmapscan"):  # scans of an index are left
            cursor.execute(f"SET LOCAL enable_{way} = off")
        cursor.execute("EXPLAIN " + queue_health.WAITING, {"project": project.pk})
        plan = "\n".join(row[0] for row in cursor.fetchall())
    assert "Index Only Scan using slot_queue" in plan


def other_indexes(cursor, table: str, keep: str) -> list[str]:
    cursor.execute(
        "SELECT indexrelid::regclass::text FROM pg_index WHERE indrelid = %s::regclass"
        " AND indexrelid <> %s::regclass AND NOT indisunique",
        [table, keep],
    )
    return [row[0] for row in cursor.fetchall()]


def test_the_scheduled_task_counts(project, settings):
    make_comparison(project)
    assert settings.CELERY_BEAT_SCHEDULE["count_queues"]["schedule"] == 30.0
    count_queues()
    assert health(project).open == 1


# The page


def test_the_page_says_how_old_its_counts_are(client, project, admin):
    client.force_login(admin)
    assert "has not been counted yet" in client.get(PAGE).content.decode()
    refresh_all()
    page = client.get(PAGE).content.decode()
    assert "Counted 0 s ago" in page and "is away" not in page
    QueueHealth.objects.update(checked_at=timezone.now() - timedelta(minutes=3))
    assert "The queue was looked at 3 min ago: the worker or the scheduler is away" in client.get(PAGE).content.decode()


def test_htmx_gets_the_section_alone(client, project, admin):
    client.force_login(admin)
    part = client.get(PAGE, headers={"HX-Request": "true"}).content.decode()
    assert part.strip().startswith('<div id="board"') and "<html" not in part


def test_a_request_costs_the_same_however_much_there_is_and_counts_no_big_table(client, project, admin, join):
    def queries() -> list[str]:
        with CaptureQueriesContext(connection) as captured:
            assert client.get(PAGE).status_code == 200
        return [query["sql"] for query in captured]

    client.force_login(admin)
    queries()  # the first page of a session asks for its person by another statement
    before = queries()
    for _ in range(5):
        person = join()
        make_comparison(project)
        claim_and_answer(project, person)
    refresh_all()
    after = queries()
    assert len(after) == len(before)
    big = [sql for sql in after if re.search(r'FROM "labelapp_(comparison|judgment|skip|prompt)"', sql)]
    assert big == []
    assert all('"labelapp_slot"."labeler_id" IN' in sql for sql in after if 'FROM "labelapp_slot"' in sql)


def test_names_and_reasons_stay_text(client, project, admin):
    evil = '<img src=x onerror="alert(1)">'
    person = make_user("mallory")
    type(person).objects.filter(pk=person.pk).update(username=evil)
    add_member(project, person, "labeler")
    Membership.objects.filter(user=person).update(paused_at=timezone.now(), paused_because=evil)
    QueueHealth.objects.create(project=project, batch=Batch.objects.create(project=project, name=evil), open=1)
    refresh_all()
    client.force_login(admin)
    assert "<img" not in client.get(PAGE).content.decode()


# People


def statuses(project) -> dict[str, str]:
    return {person.name: person.status for person in read_dashboard(project).people}


def test_each_labeler_has_a_status(project, labeler, join):
    for _ in range(9):
        make_comparison(project)
    working, paused, capped, quiz, left = (join(name) for name in ("wanda", "paul", "carl", "quinn", "lou"))
    for person in (working, paused, left):
        claim_slot(project=project, labeler=person)
    claim_and_answer(project, capped)
    Slot.objects.filter(labeler=left).update(lease_until=timezone.now() + timedelta(minutes=6))
    members = {member.user.username: member for member in project.memberships.select_related("user")}
    Membership.objects.exclude(user=quiz).update(qualified_at=timezone.now())
    Membership.objects.filter(pk=members["paul"].pk).update(paused_at=timezone.now(), paused_because="holiday")
    Membership.objects.filter(pk=members["carl"].pk).update(daily_cap=1)
    Project.objects.update(quiz_items=3)
    project.refresh_from_db()
    expected = {"lena": "idle", "wanda": "working", "paul": "paused", "carl": "capped", "quinn": "quiz", "lou": "idle"}
    assert statuses(project) == expected


def test_researchers_are_not_listed_as_labelers_but_admins_who_judge_are(project, labeler, join):
    join("rita", role="researcher")
    boss = join("boss", role="admin")
    make_comparison(project)
    assert "boss" not in statuses(project)
    claim_and_answer(project, boss)
    assert set(statuses(project)) == {"lena", "boss"}


def test_skips_by_three_people_need_a_look(client, project, admin, join):
    comparison = make_comparison(project)
    for reason in ("unclear", "unclear", "broken"):
        person = join()
        slot = claim_slot(project=project, labeler=person)
        skip_item(project=project, labeler=person, claim=shown(slot), reason=reason)
    refresh_all()
    board = read_dashboard(project)
    assert [(reason, count) for reason, _, count in board.skips] == [("unclear", 2), ("broken", 1)]
    assert board.many_skips == [[comparison.pk, 3]]
    client.force_login(admin)
    page = client.get(PAGE).content.decode()
    assert f"/data/comparisons/{comparison.pk}/" in page and "?skipped=unclear" in page


# What is left, and what it costs


def days_back(*judged: int) -> dict[date, int]:
    """judged[0] is yesterday."""
    return {TODAY - timedelta(days=back): count for back, count in enumerate(judged, start=1)}


def test_paces_are_of_whole_days_and_spans():
    assert pace_of(days_back(30, 30, 30, 0, 0, 0, 0), TODAY) == Pace(30.0, 30.0)
    assert pace_of(days_back(0, 0, 0, 7, 7, 7, 7), TODAY) == Pace(4.0, 4.0)
    assert pace_of(days_back(60, *[10] * 13), TODAY) == Pace(190 / 14, 80 / 3)
    assert pace_of({TODAY: 500}, TODAY) is None and pace_of({}, TODAY) is None


def test_without_a_pace_there_is_no_date():
    assert finish_of(100, None, NOW) is None
    assert finish_of(0, Pace(1, 2), NOW) is None
    assert finish_of(10**9, Pace(1, 2), NOW) is None
    assert finish_of(100, Pace(10, 50), NOW) == (NOW + timedelta(days=2), NOW + timedelta(days=10))


@pytest.mark.parametrize(
    ("waiting", "days", "expected"),
    [(0, -1, "done"), (5, -1, "late"), (5, 1, "late"), (5, 5, "at risk"), (5, 11, "on track"), (5, None, "")],
)
def test_a_deadline_is_on_track_or_not(waiting, days, expected):
    finish = finish_of(100, Pace(10, 50), NOW)
    deadline = None if days is None else NOW + timedelta(days=days)
    assert standing(waiting=waiting, deadline=deadline, finish=finish, now=NOW) == expected
    if expected == "on track":
        assert standing(waiting=waiting, deadline=deadline, finish=None, now=NOW) == "unknown"


def test_a_batch_waits_for_what_comes_before_it(project):
    now = timezone.now()
    late = Batch.objects.create(project=project, name="later", priority=5, deadline=now + timedelta(days=15))
    first = Batch.objects.create(project=project, name="first", priority=-1, deadline=now + timedelta(days=15))
    QueueHealth.objects.create(project=project, open=200, checked_at=now)
    QueueHealth.objects.create(project=project, batch=late, open=50)
    QueueHealth.objects.create(project=project, batch=first, open=100)
    person = make_user()
    for back in (1, 2, 3):
        WorkDay.objects.create(project=project, labeler=person, day=now.date() - timedelta(days=back), judged=10)
    lines = {line.name: line.standing for line in read_dashboard(project).batches}
    assert lines == {"first": "on track", "later": "late"}


def test_cost_is_hours_times_price():
    cost = cost_of(hourly=Decimal("36.00"), seconds=1000.0, judged=50, waiting=100)
    assert (cost.spent, cost.per_judgment, cost.to_finish) == (Decimal(10), Decimal("0.2"), Decimal(20))
    assert cost_of(hourly=None, seconds=1000.0, judged=50, waiting=100) == (None, None, None)
    assert cost_of(hourly=Decimal(36), seconds=0.0, judged=0, waiting=9).to_finish is None


def test_bars_are_in_proportion_and_named():
    drawn = by_day({TODAY: 10, TODAY - timedelta(days=1): 5, TODAY - timedelta(days=2): 0}, TODAY)
    assert [bar.height for bar in drawn.bars[-3:]] == ["0.0", "48.0", "96.0"]
    assert (drawn.last, drawn.top, drawn.summary) == ("20 May", 10, "Last 14 days: 15 judgments")
    assert len(drawn.bars) == 14
    assert by_day({}, TODAY).top == 0


def test_it_says_that_a_quiz_has_nothing_to_ask(client, project, join):
    client.force_login(join("boss", role="admin"))
    said = "no comparison is marked as gold"
    Project.objects.update(quiz_items=3)
    assert said in client.get(f"/p/{project.slug}/labeling/").content.decode()
    make_gold(make_comparison(project), gold=[[0], [1]])
    assert said not in client.get(f"/p/{project.slug}/labeling/").content.decode()
