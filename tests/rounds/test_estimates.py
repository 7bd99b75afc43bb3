"""Estimates: real dry runs of whole recipes, what they leave behind, and the part of the page that shows them."""

from datetime import timedelta
from pathlib import Path

import pytest
from django.conf import settings
from django.core.management import CommandError, call_command
from django.db import IntegrityError, transaction
from django.utils import timezone

from labelapp.models import Booking, Estimate, Round
from labelapp.rounds import dry_runs
from labelapp.rounds.actions import launch_round
from labelapp.rounds.checks import check_disk, check_memory, check_overlap, check_pairs, judges_of, size
from labelapp.rounds.dry_runs import order_estimate, run_estimate
from labelapp.rounds.refusals import DiskRefused
from labelapp.rounds.saved import plan_preset
from labelapp.rounds.supervise import supervise_round
from tests.factories import make_project, make_user
from tests.rounds.material import TINY, make_parent, make_snapshot, write_rows
from tests.rounds.test_recipes import QUICK, SHORT

pytestmark = pytest.mark.django_db
QUICKLY = {
    "reward.optimization": {**TINY, "max_steps": 12, "epochs": 9}, "evaluate.bootstrap": 100, "audit.bootstrap": 100,
}  # fmt: skip
FURTHER = "\n".join(["evaluate.bootstrap=100", "audit.bootstrap=100", "reward.optimization.batch_size=4"])


@pytest.fixture
def project():
    return make_project(admin=make_user(), researcher=make_user())


@pytest.fixture
def given(project):
    return {"project": project, "snapshot": make_snapshot(project), "parent": make_parent(project)}


def order(given, recipe: str = "reward", changes: dict = QUICKLY, **how) -> Estimate:
    return order_estimate(plan=plan_preset(recipe, changes=changes), **given, **how)


def post(client, given, **fields):
    client.force_login(given["project"].memberships.get(role="admin").user)
    start = {"recipe": "reward", "snapshot": given["snapshot"].pk, "parent": given["parent"].pk}
    return client.post(f"/p/{given['project'].slug}/rounds/new/", start | fields)


@pytest.mark.django_db(transaction=True)
def test_a_recipe_runs_dry_to_its_end_and_a_real_round_takes_the_steps_that_it_foretold(given):
    estimate = order(given, now=True)
    assert estimate.state == "done", estimate.error
    stages = {stage["name"]: stage for stage in estimate.found["stages"]}
    assert list(stages) == ["reward", "evaluate", "audit"] and stages["reward"]["steps"] == 12
    assert all(stage["whole_seconds"] > 0 and stage["peak_bytes"] > 50_000_000 for stage in stages.values())
    assert [check["name"] for check in estimate.found["checks"]] == ["Data", "Overlap", "Disk", "Memory"]
    assert not (settings.ARTIFACT_DIR / "dry-runs" / str(estimate.pk)).exists()
    booking = estimate.booking
    assert booking.device == "cpu" and booking.device_seconds > 0 and booking.peak_bytes
    round = launch_round(**given, recipe="reward", changes=QUICKLY)
    assert round.expected["device_seconds"] == pytest.approx(sum(stage["whole_seconds"] for stage in stages.values()))
    supervise_round(round.pk)
    round.refresh_from_db()
    assert round.state == "done" and round.stages.get(name="reward").steps == 12
    taken = round.booking
    assert taken.device_seconds > 0.5 * sum(stage.result["seconds"] for stage in round.stages.all())
    assert 0.5 < taken.peak_bytes / round.expected["peak_bytes"] < 2


def test_later_stages_run_dry_on_what_the_earlier_ones_left(given):
    """Fine-tuning on the best of n reads rows that a dry run wrote in the place of all prompts'."""
    estimate = order(given, "best-of-n", SHORT | QUICK["best-of-n"], now=True)
    assert estimate.state == "done", estimate.error
    assert [stage["name"] for stage in estimate.found["stages"]] == ["reward", "best_of_n", "sft", "evaluate", "audit"]


def test_a_dry_run_that_cannot_go_on_fails_with_the_stages_own_sentence_and_is_booked(project):
    given = {"project": project, "snapshot": make_snapshot(project, "broken"), "parent": make_parent(project)}
    estimate = order(given, now=True)
    assert estimate.state == "failed" and "line 4" in estimate.error and estimate.booking.device_seconds > 0


def test_a_stage_that_does_not_get_through_its_first_steps_is_given_up(given, monkeypatch):
    monkeypatch.setattr(dry_runs, "PATIENCE", timedelta(seconds=1))
    estimate = order(given, now=True)
    assert estimate.state == "failed" and estimate.error.startswith("reward takes more than")
    assert not (settings.ARTIFACT_DIR / "dry-runs" / str(estimate.pk)).exists()


def test_a_ring_that_comes_twice_runs_once(given):
    estimate = order(given, changes=QUICKLY | {"reward.optimization": {**TINY, "max_steps": 1}})
    Estimate.objects.filter(pk=estimate.pk).update(state="running", busy_until=timezone.now() + timedelta(minutes=5))
    run_estimate(estimate.pk)
    estimate.refresh_from_db()
    assert estimate.found == {} and not Booking.objects.exists()


def test_what_is_under_way_is_not_ordered_twice_but_a_lost_one_is(given):
    first = order(given)
    assert order(given) == first and order(given, changes={}) != first
    Estimate.objects.filter(pk=first.pk).update(state="running", busy_until=timezone.now() - timedelta(seconds=1))
    assert order(given) != first


def test_a_running_estimate_says_until_when_it_is_believed_to_live(given):
    estimate = order(given)
    with pytest.raises(IntegrityError, match="running_estimate"), transaction.atomic():
        Estimate.objects.filter(pk=estimate.pk).update(state="running", busy_until=None)


def test_the_page_comes_back_with_the_same_settings_and_says_how_far_it_is(client, given):
    answer = post(client, given, do="estimate", further=FURTHER, seed="7", save_name="")
    estimate = Estimate.objects.get()
    assert answer.url.endswith(f"?estimate={estimate.pk}#estimate") and not Round.objects.exists()
    page = client.get(answer.url)
    form = page.context["form"]
    assert (form["further"].value(), form["seed"].value(), page.context["recipe"]) == (FURTHER, "7", "reward")
    assert b"Waiting for a free trainer" in page.content and b"every 2s" in page.content
    Estimate.objects.update(state="running", busy_until=timezone.now() - timedelta(minutes=1))
    assert b"was lost" in client.get(answer.url).content
    found = {"stages": [{"name": "reward", "whole_seconds": 5400, "peak_bytes": 3 * 10**9}], "device": "cpu",
             "checks": [{"name": "Disk", "verdict": "block", "text": "no room"}]}  # fmt: skip
    Estimate.objects.update(state="done", found=found, busy_until=None)
    part = client.get(f"/p/{given['project'].slug}/rounds/estimates/{estimate.pk}/").content.decode()
    assert "1.5 device-hours on cpu" in part and "3.0 GB" in part and "no room" in part and "every 2s" not in part
    assert "Cost" not in part  # nobody set a price
    type(given["project"]).objects.update(cpu_hour_price=2)
    assert "3.00 EUR" in client.get(answer.url).content.decode()


def test_an_estimate_is_only_for_admins_of_its_project(client, given):
    estimate = order(given)
    address = f"/p/{given['project'].slug}/rounds/estimates/{estimate.pk}/"
    client.force_login(given["project"].memberships.get(role="researcher").user)
    assert client.get(address).status_code == 403
    other = make_project(admin=make_user())
    client.force_login(other.memberships.get().user)
    assert client.get(address).status_code == 404
    assert client.get(f"/p/{other.slug}/rounds/estimates/{estimate.pk}/").status_code == 404
    assert "estimate" not in client.get(f"/p/{other.slug}/rounds/new/?estimate={estimate.pk}").context


def test_the_shell_estimates_without_launching(given, capsys):
    changes = ["evaluate.bootstrap=100", "audit.bootstrap=100", "reward.optimization.batch_size=4"]
    call_command("launch", given["project"].slug, recipe="reward", estimate=True, set=changes)
    said = capsys.readouterr().out
    assert "Data: 24 decisive pairs" in said and " of cpu, " in said and "EUR" not in said
    assert not Round.objects.exists()
    with pytest.raises(CommandError, match="Freeze a snapshot first"):
        call_command("launch", make_project().slug, estimate=True)


def test_overlap_counts_people_not_judgments(project, tmp_path):
    rows = [{"comparison": 1, "annotator": who} for who in ("ann", "bob", "ann")]
    rows += [{"comparison": number, "annotator": "ann"} for number in range(2, 5)]
    write_rows(tmp_path / "judgments.jsonl", rows)
    snapshot = make_snapshot(project)
    snapshot.path = str(tmp_path)
    assert sorted(judges_of(snapshot)) == [1, 1, 1, 2]
    assert check_overlap(snapshot) == {
        "name": "Overlap", "verdict": "pass", "text": "1 of 4 comparisons were judged by two people or more.",
    }  # fmt: skip
    write_rows(tmp_path / "judgments.jsonl", rows[3:])
    assert check_overlap(snapshot)["verdict"] == "warn"
    write_rows(tmp_path / "judgments.jsonl", [])
    assert "not known" in check_overlap(snapshot)["text"]


def test_few_pairs_a_full_disk_and_too_little_memory_are_said(given, monkeypatch):
    stages = plan_preset("reward").stages
    assert check_pairs(given["snapshot"])["verdict"] == "warn"
    given["snapshot"].pairs_train, given["snapshot"].pairs_test = 1000, 200
    assert check_pairs(given["snapshot"])["text"] == "1,000 decisive pairs to train, 200 held out, of 32 judgments."
    assert check_disk(given["parent"].path, stages)["verdict"] == "pass"
    monkeypatch.setattr("labelapp.rounds.checks.WRITTEN", 10**12)
    assert check_disk(given["parent"].path, stages)["verdict"] == "block"
    with pytest.raises(DiskRefused, match="There is no room on the disk"):
        launch_round(**given)
    pairs = Path(given["snapshot"].path) / "pairs-train.jsonl"
    assert check_memory(given["parent"].path, stages, pairs)["verdict"] == "pass"
    monkeypatch.setattr("labelapp.rounds.memory.PROGRAM", 10**15)
    assert check_memory(given["parent"].path, stages, pairs)["verdict"] == "warn"
    assert "cannot be reckoned" in check_memory("/nowhere", stages, pairs)["text"]


@pytest.mark.parametrize(("count", "words"), [(1500, "2 kB"), (2.5e6, "2.5 MB"), (1.25e9, "1.2 GB"), (3e12, "3.0 TB")])
def test_sizes_read_as_people_say_them(count, words):
    assert size(count) == words
