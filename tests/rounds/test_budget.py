"""Budgets of a month: what stops a launch, from where, and what is booked whatever became of a round."""

import threading
from datetime import timedelta
from decimal import Decimal
from io import StringIO

import pytest
from django.core.management import CommandError, call_command
from django.db import DatabaseError, IntegrityError, connection, transaction
from django.utils import timezone

from labelapp.models import Booking, Estimate, Project, Round, Schedule
from labelapp.rounds import lease, schedule
from labelapp.rounds.actions import launch_round, queue_round, request_cancel
from labelapp.rounds.budget import Expected, hours_text, refuse_over_budget, spent_this_month
from labelapp.rounds.estimate import expected_of, plan_digest
from labelapp.rounds.refusals import BudgetRefused
from labelapp.rounds.saved import plan_preset
from tests.factories import make_project, make_user
from tests.rounds.material import make_parent, make_snapshot
from tests.rounds.test_pages import finish
from tests.rounds.test_schedule import arrange, judge

pytestmark = pytest.mark.django_db
HOUR = 3600.0


@pytest.fixture
def project():
    return make_project(admin=make_user(), researcher=make_user(), labeler=make_user())


@pytest.fixture
def given(project):
    return {"project": project, "snapshot": make_snapshot(project), "parent": make_parent(project)}


def allow(project: Project, **rules) -> None:
    Project.objects.filter(pk=project.pk).update(**rules)
    project.refresh_from_db()


def known(given, hours: float = 2.0, recipe: str = "reward-dpo") -> Estimate:
    """A dry run of the recipe that said so many hours."""
    plan = plan_preset(recipe)
    stages = [{"name": "reward", "whole_seconds": hours * HOUR, "peak_bytes": 10**9}]
    found = {"stages": stages, "device": "cpu"}
    return Estimate.objects.create(plan=plan_digest(plan.stages), stages=[], state="done", found=found, **given)


def expect(hours: float) -> Expected:
    return Expected("", hours * HOUR, "cpu", 0, "a dry run")


def book(project: Project, hours: float, **fields) -> Booking:
    round = queue_round(project=project, kind="sampling", recipe={"name": "sample", "stages": []})
    Round.objects.filter(pk=round.pk).update(state="done")
    usual = {"device": "cpu", "hour_price": 0, "money": 0, "currency": "EUR"}
    return Booking.objects.create(project=project, round=round, device_seconds=hours * HOUR, **(usual | fields))


def test_without_a_budget_nobody_asks_for_an_estimate(given):
    assert launch_round(**given).expected == {"plan": plan_digest(plan_preset("reward-dpo").stages)}


def test_a_round_that_fits_is_launched_and_keeps_what_it_was_expected_to_take(given):
    allow(given["project"], budget_device_hours=2)
    known(given)
    round = launch_round(**given)
    assert round.expected["device_seconds"] == 2 * HOUR and round.expected["source"] == "a dry run"


def test_a_round_that_does_not_fit_is_refused_with_what_is_spent_expected_and_allowed(given):
    allow(given["project"], budget_device_hours=4)
    known(given, hours=2.5)
    book(given["project"], 1.6)
    with pytest.raises(BudgetRefused) as refusal:
        launch_round(**given)
    said = str(refusal.value)
    assert "budget is 4 device-hours" in said and "1.6 device-hours are spent" in said and "about 2.5 device" in said
    assert not given["project"].rounds.filter(kind="training").exists()


def test_money_stops_a_launch_where_hours_do_not(given):
    allow(given["project"], budget_money=5, cpu_hour_price=Decimal("1.5"), budget_device_hours=100)
    known(given, hours=4)
    with pytest.raises(BudgetRefused, match=r"budget is 5\.00 EUR: 0\.00 EUR are spent.*about 6\.00 EUR"):
        launch_round(**given)
    allow(given["project"], cpu_hour_price=Decimal("1.25"))
    assert launch_round(**given).pk


def test_with_a_budget_a_round_of_which_nothing_is_known_waits_for_an_estimate(given):
    allow(given["project"], budget_device_hours=1000)
    with pytest.raises(BudgetRefused, match="estimate it first"):
        launch_round(**given)


def test_last_month_and_another_project_do_not_count(project):
    book(project, 5, created_at=timezone.now().replace(day=1) - timedelta(days=2))
    book(make_project(), 7)
    book(project, 1, money=3), book(project, 1, money=8, currency="USD")
    assert spent_this_month(project) == (2.0, 3)


def test_rounds_under_way_are_held_back_with_the_more_of_expected_and_taken(project):
    allow(project, cpu_hour_price=2)
    round = queue_round(project=project, kind="sampling", recipe={"name": "s", "stages": []}, expected=expect(3))
    assert spent_this_month(project) == (3.0, 6)
    Round.objects.filter(pk=round.pk).update(device_time=timedelta(hours=4))
    assert spent_this_month(project) == (4.0, 8)
    request_cancel(round=round)
    assert spent_this_month(project) == (4.0, 8) and round.booking.device_hours == 4.0


@pytest.mark.parametrize(("limit", "refused"), [(1.0, True), (1.1, False)])
def test_a_sampling_round_of_which_nothing_is_known_is_stopped_by_a_budget_that_is_used_up(project, limit, refused):
    allow(project, budget_device_hours=limit)
    book(project, 1)
    if refused:
        with pytest.raises(BudgetRefused, match="not known"):
            refuse_over_budget(project, None, must_know=False)
    else:
        refuse_over_budget(project, None, must_know=False)


def test_a_sampling_round_is_expected_to_take_what_the_last_of_its_name_took_a_prompt(project):
    first = queue_round(project=project, kind="sampling", recipe={"name": "sample", "stages": [], "prompts": [1, 2]})
    Round.objects.filter(pk=first.pk).update(device_time=timedelta(hours=1))
    with lease.fenced(lease.claim(first.pk, owner="test")) as held:
        lease.close(held, "done")
    allow(project, budget_device_hours=3)
    recipe = {"stages": [], "prompts": [3, 4, 5, 6, 7]}
    with pytest.raises(BudgetRefused, match=r"about 2\.5 device-hours"):
        queue_round(project=project, kind="sampling", recipe={"name": "sample", **recipe})
    assert queue_round(project=project, kind="sampling", recipe={"name": "plan", **recipe}).expected == {"plan": ""}


@pytest.mark.django_db(transaction=True)
def test_of_two_launches_at_once_only_one_gets_a_budget_that_holds_one(project):
    """A training and a sampling round, which may run side by side; each takes 2 of 3 device-hours."""
    allow(project, budget_device_hours=3)
    start, outcomes = threading.Barrier(2), []

    def launch(kind: str) -> None:
        try:
            start.wait(10)
            recipe = {"name": kind, "stages": []}
            outcomes.append(queue_round(project=project, kind=kind, recipe=recipe, expected=expect(2)).kind)
        except BudgetRefused as refusal:
            outcomes.append(str(refusal))
        finally:
            connection.close()

    threads = [threading.Thread(target=launch, args=(kind,)) for kind in ("training", "sampling")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert len(outcomes) == 2 and Round.objects.count() == 1
    assert any("2 device-hours are spent or held back" in said for said in outcomes)


def test_the_page_and_the_shell_say_the_same_sentence(client, given):
    project = given["project"]
    allow(project, budget_device_hours=1)
    known(given)
    client.force_login(project.memberships.get(role="admin").user)
    fields = {"recipe": "reward-dpo", "snapshot": given["snapshot"].pk, "parent": given["parent"].pk, "do": "launch"}
    answer = client.post(f"/p/{project.slug}/rounds/new/", fields)
    said = answer.context["form"].non_field_errors()[0]
    assert answer.status_code == 422 and said.startswith("The month's budget is 1 device-hour:")
    with pytest.raises(CommandError) as refusal:
        call_command("launch", project.slug, stdout=StringIO())
    assert str(refusal.value) == said and not Round.objects.exists()


def test_a_schedule_that_has_no_budget_left_says_so_and_launches_nothing(project):
    make_parent(project)
    row = arrange(project, every_judgments=2)
    judge(project, 2)
    schedule.tick()
    round = Round.objects.get()
    Round.objects.filter(pk=round.pk).update(device_time=timedelta(hours=3))
    finish(round)
    allow(project, budget_device_hours=4)
    judge(project, 2)
    schedule.tick()
    row.refresh_from_db()
    assert Round.objects.count() == 1 and "budget is 4 device-hours" in row.outcome


def test_a_schedule_with_a_budget_runs_dry_first_and_launches_at_a_later_tick(project):
    make_parent(project)
    allow(project, budget_device_hours=4)
    row = arrange(project, every_judgments=2)
    judge(project, 2)
    schedule.tick(), schedule.tick()
    row.refresh_from_db()
    estimate = Estimate.objects.get()
    assert not Round.objects.exists() and "run dry first" in row.outcome
    found = {"stages": [{"name": "reward", "whole_seconds": 60.0, "peak_bytes": 1}], "device": "cpu"}
    Estimate.objects.filter(pk=estimate.pk).update(state="done", found=found)
    schedule.tick()
    assert Round.objects.get().expected["device_seconds"] == 60.0


def test_a_dry_run_that_failed_ends_the_schedules_turn_with_its_reason(project):
    make_parent(project)
    allow(project, budget_device_hours=4)
    arrange(project, every_judgments=2)
    judge(project, 2)
    schedule.tick()
    Estimate.objects.update(state="failed", error="reward: there is not enough memory.")
    schedule.tick()
    assert "not enough memory" in Schedule.objects.get().outcome and not Round.objects.exists()
    schedule.tick()
    assert Estimate.objects.count() == 1  # not due again


def run_for(round: Round, seconds: float) -> lease.Claim:
    """Claim the round as a worker would, and let so much time pass on the database's clock."""
    held = lease.claim(round.pk, owner="test")
    Round.objects.filter(pk=round.pk).update(heartbeat_at=timezone.now() - timedelta(seconds=seconds))
    return held


def test_time_is_counted_by_heartbeats_and_booked_at_the_end(given):
    allow(given["project"], cpu_hour_price=Decimal("3.6"))
    round = launch_round(**given)
    held = run_for(round, 10)
    assert lease.beat(held)
    Round.objects.filter(pk=round.pk).update(heartbeat_at=timezone.now() - timedelta(seconds=5))
    with lease.fenced(held) as fenced:
        lease.close(fenced, "failed", code="crashed", error="It fell.")
    booking = Booking.objects.get()
    assert booking.device_seconds == pytest.approx(15, abs=1) and booking.device == "cpu"
    assert float(booking.money) == pytest.approx(0.015, abs=0.002) and booking.currency == "EUR"


def test_a_cancelled_round_books_what_ran_and_one_that_never_ran_books_nothing_of_time(given):
    round = launch_round(**given)
    lease.release(run_for(round, 20), reason="the worker is shutting down")
    request_cancel(round=round)
    assert round.booking.device_seconds == pytest.approx(20, abs=1)
    waiting = launch_round(**given)
    request_cancel(round=waiting)
    assert waiting.booking.device_seconds == 0


def test_after_a_lost_lease_no_time_is_counted_that_nobody_vouches_for(given):
    round = launch_round(**given)
    run_for(round, 5000)
    Round.objects.filter(pk=round.pk).update(lease_until=timezone.now() - timedelta(seconds=1))
    lease.reconcile()
    round.refresh_from_db()
    assert (round.state, round.device_time) == ("queued", timedelta(0))


def test_what_was_booked_names_the_device_and_the_most_memory(given):
    allow(given["project"], gpu_hour_price=2, cpu_hour_price=1)
    round = launch_round(**given)
    Round.objects.filter(pk=round.pk).update(device_time=timedelta(hours=3))
    held = lease.claim(round.pk, owner="test")
    for stage, memory in zip(round.stages.all()[:2], (10, 70), strict=True):
        stage.result = {"device": "NVIDIA H200", "peak_bytes": 5, "device_peak_bytes": memory}
        stage.save()
    with lease.fenced(held) as fenced:
        lease.close(fenced, "done")
    booking = round.booking
    assert (booking.device, booking.peak_bytes) == ("NVIDIA H200", 70)
    assert float(booking.money) == pytest.approx(6, abs=0.1)


def test_a_later_round_of_the_same_plan_is_expected_to_take_what_the_earlier_one_took(given):
    round = launch_round(**given)
    Round.objects.filter(pk=round.pk).update(device_time=timedelta(hours=2))
    finish(round)
    more = make_snapshot(given["project"], "safety", pairs_train=72, pairs_test=24)
    expected = expected_of(plan=plan_preset("reward-dpo"), **(given | {"snapshot": more}))
    assert expected.device_hours == pytest.approx(6, abs=0.01)  # three times the pairs
    assert expected.source == "round 1, which ran the same plan, for 3.0 times the data"
    assert expected_of(plan=plan_preset("grpo"), **given) is None


def test_a_booking_cannot_be_changed_removed_or_doubled(project):
    booking = book(project, 1)
    for attempt in (lambda: Booking.objects.update(device_seconds=0), booking.delete):
        with pytest.raises(DatabaseError, match="append-only"), transaction.atomic():
            attempt()
    with pytest.raises(IntegrityError), transaction.atomic():
        Booking.objects.create(
            project=project, round=booking.round, device="cpu", device_seconds=1, hour_price=0, money=0, currency="EUR"
        )


@pytest.mark.parametrize(
    ("fields", "constraint"),
    [({"device_seconds": -1}, "bookings_are_not_negative"), ({"round": None}, "booking_is_of_a_round_or_a_dry_run")],
)
def test_the_database_refuses_bookings_that_cannot_be(project, fields, constraint):
    round = queue_round(project=project, kind="sampling", recipe={"name": "s", "stages": []})
    usual = {"device": "cpu", "device_seconds": 1, "hour_price": 0, "money": 0, "currency": "EUR", "round": round}
    with pytest.raises(IntegrityError, match=constraint), transaction.atomic():
        Booking.objects.create(project=project, **(usual | fields))


@pytest.mark.parametrize(
    ("rules", "constraint"),
    [({"cpu_hour_price": -1}, "project_hours_cost_nothing"), ({"budget_money": -1}, "project_budgets_are_not")],
)
def test_the_database_refuses_prices_and_budgets_below_nothing(project, rules, constraint):
    with pytest.raises(IntegrityError, match=constraint), transaction.atomic():
        allow(project, **rules)


def test_only_an_admin_sets_prices_and_a_researcher_reads_what_was_spent(client, project):
    book(project, 1.5)
    address = f"/p/{project.slug}/rounds/compute/"
    fields = {"cpu_hour_price": "0.4", "gpu_hour_price": "2", "currency": "usd", "budget_device_hours": "8"}
    for role, read, saved in (("labeler", 403, 403), ("researcher", 200, 403), ("admin", 200, 302)):
        client.force_login(project.memberships.get(role=role).user)
        assert client.get(address).status_code == read
        assert client.post(address, fields).status_code == saved
    project.refresh_from_db()
    assert (project.cpu_hour_price, project.currency, project.budget_money) == (Decimal("0.4"), "USD", None)
    page = client.get(address).content.decode()
    assert "1.5 device-hours of 8 device-hours" in page and "Round 1" in page
    assert client.post(address, fields | {"budget_money": "-3"}).status_code == 422
    client.force_login(make_user())
    assert client.get(address).status_code == 404


def test_the_rounds_page_shows_the_estimate_beside_what_it_took(client, given):
    project = given["project"]
    allow(project, cpu_hour_price=2)
    known(given)
    round = launch_round(**given)
    Round.objects.filter(pk=round.pk).update(device_time=timedelta(hours=3))
    finish(round)
    client.force_login(project.memberships.get(role="researcher").user)
    lines = {line.name: line[1:] for line in client.get(f"/p/{project.slug}/rounds/1/").context["compute"]}
    assert lines["Device-hours"] == ("2 device-hours", "3 device-hours") and lines["Cost"] == ("4.00 EUR", "6.00 EUR")
    assert lines["Time of reward model"][0] == "2 h 0 min" and lines["Time of evaluate"][1] == "1 s"


@pytest.mark.parametrize(
    ("hours", "words"),
    [(0, "0 device-hours"), (0.0004, "less than 0.001 device-hours"), (0.04567, "0.0457 device-hours"),
     (1, "1 device-hour"), (1234.5, "1,234 device-hours")],
)  # fmt: skip
def test_device_hours_read_as_people_say_them(hours, words):
    assert hours_text(hours) == words
