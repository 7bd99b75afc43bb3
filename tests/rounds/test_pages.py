"""The pages of the rounds: who may see them, what they say, and the files behind the figures."""

import json

import pytest
from django.conf import settings
from django.db import connection
from django.test.utils import CaptureQueriesContext

from labelapp.models import MetricRow, Round, Stage
from labelapp.rounds import lease, results
from labelapp.rounds.actions import launch_round
from tests.factories import make_project, make_user
from tests.gate.metrics import result
from tests.rounds.material import make_parent, make_snapshot, policy_files

pytestmark = pytest.mark.django_db
MANAGED = ["new/", "1/cancel/"]
RESEARCHED = ["", "1/", "1/events", "1/reward/result.json", "1/reward/log.txt"]


@pytest.fixture
def project():
    return make_project(admin=make_user(), researcher=make_user(), labeler=make_user())


@pytest.fixture
def round(project):
    return launch_round(project=project, snapshot=make_snapshot(project), parent=make_parent(project), mitigation=True)


def open_as(client, project, role: str, path: str, **extra):
    client.force_login(project.memberships.get(role=role).user)
    return client.get(f"/p/{project.slug}/rounds/{path}", **extra)


def finish(round: Round, **spoiled) -> None:
    """End the round as its supervisor would: real artifacts, and the given evaluation."""
    held = lease.claim(round.pk, owner="test")
    path, digest = policy_files()
    for stage in round.stages.all():
        stage.output = str(settings.ARTIFACT_DIR / f"finished-{round.pk}" / stage.name)
        (settings.ARTIFACT_DIR / f"finished-{round.pk}" / stage.name).mkdir(parents=True)
        stage.result = result(**spoiled) if stage.stage == "evaluate" else {"status": "done", "metrics": []}
        stage.result |= {"checkpoint": None if stage.stage == "evaluate" else {"path": path, "sha256": digest}}
        with open(f"{stage.output}/result.json", "w") as file:
            json.dump(stage.result, file)
        stage.state, stage.step, stage.steps = Stage.State.DONE, 3, 3
        stage.save()
        MetricRow.objects.bulk_create(
            MetricRow(stage=stage, step=step, values={"loss_nats": 0.7 - step / 10, "accuracy": 0.5, "margin": 0.1})
            for step in (1, 2, 3)
        )
    results.complete(held)


@pytest.mark.parametrize("path", RESEARCHED + MANAGED)
def test_a_stranger_finds_nothing(client, round, path):
    client.force_login(make_user())
    method = client.post if path in MANAGED else client.get
    assert method(f"/p/{round.project.slug}/rounds/{path}").status_code == 404


@pytest.mark.parametrize("path", RESEARCHED + MANAGED)
def test_a_visitor_is_asked_to_sign_in(client, round, path):
    method = client.post if path in MANAGED else client.get
    answer = method(f"/p/{round.project.slug}/rounds/{path}")
    assert answer.status_code == 302 and "/accounts/login/" in answer["Location"]


@pytest.mark.parametrize("path", RESEARCHED + MANAGED)
def test_a_labeler_may_not_look(client, round, path):
    client.force_login(round.project.memberships.get(role="labeler").user)
    method = client.post if path in MANAGED else client.get
    assert method(f"/p/{round.project.slug}/rounds/{path}").status_code == 403


@pytest.mark.parametrize("path", MANAGED)
def test_a_researcher_may_look_but_not_launch_or_cancel(client, round, path):
    client.force_login(round.project.memberships.get(role="researcher").user)
    assert client.post(f"/p/{round.project.slug}/rounds/{path}").status_code == 403


def test_a_queued_round_says_that_it_waits_and_can_be_cancelled(client, round):
    page = open_as(client, round.project, "admin", "1/").content.decode()
    assert "Waiting for a free worker" in page and "Cancel round" in page
    client.post(f"/p/{round.project.slug}/rounds/1/cancel/")
    round.refresh_from_db()
    assert round.state == "cancelled"


def test_the_page_of_a_finished_round_opens_no_stream(client, round):
    finish(round)
    page = open_as(client, round.project, "researcher", "1/").content.decode()
    assert "data-events" not in page and "rounds.js" not in page


def test_a_finished_round_shows_each_figure_with_interval_baselines_and_verdict(client, round):
    finish(round)
    page = open_as(client, round.project, "researcher", "1/").content.decode()
    audit = round.versions.get(kind="policy").audits.get(stage__stage="evaluate")
    for metric in audit.metrics.filter(key__in=["reward_accuracy", "win_rate"]):
        assert f'id="metric-{metric.pk}"' in page
        assert f"/p/{round.project.slug}/audits/{audit.pk}/result.json" in page
    assert "longer wins" in page and "95 % interval" in page


def test_a_reward_model_below_its_trivial_baseline_says_so_above_the_table(client, round):
    finish(round, reward_accuracy={"value": 0.6, "low": 0.55, "high": 0.65, "baselines": {"longer_wins": 0.77}})
    page = open_as(client, round.project, "researcher", "1/").content.decode()
    assert page.index("below the trivial baseline longer wins (77.0 %)") < page.index("<table")


def test_registering_a_finished_round_twice_adds_nothing(round):
    finish(round)
    results.register(round)
    assert round.versions.count() == 3
    assert round.versions.get(kind="policy").audits.count() == 2


def test_the_plots_have_words_and_a_table_behind_them(client, round):
    finish(round)
    page = open_as(client, round.project, "researcher", "1/").content.decode()
    assert 'aria-label="Loss: 0.6 nats at step 1, 0.4 nats at step 3"' in page
    assert "The numbers behind these plots" in page


def test_the_very_file_that_the_stage_wrote_is_served(client, round):
    finish(round)
    answer = open_as(client, round.project, "researcher", "1/evaluate/result.json")
    written = (settings.ARTIFACT_DIR / f"finished-{round.pk}" / "evaluate" / "result.json").read_bytes()
    assert b"".join(answer.streaming_content) == written
    assert answer["Content-Type"] == "application/json"


@pytest.mark.parametrize("name", ["manifest.json", "..%2Fresult.json", "state", "checkpoint"])
def test_only_the_published_files_are_served(client, round, name):
    finish(round)
    assert open_as(client, round.project, "researcher", f"1/reward/{name}").status_code == 404


def test_the_list_shows_state_lineage_and_the_headline_figure(client, round):
    finish(round)
    page = open_as(client, round.project, "researcher", "").content.decode()
    assert round.parent.name in page and round.versions.get(kind="policy").name in page
    assert "win rate" in page


def test_a_longer_list_asks_no_more_queries(client, round):
    def queries() -> int:
        with CaptureQueriesContext(connection) as asked:
            assert open_as(client, round.project, "researcher", "").status_code == 200
        return len(asked)

    finish(round)
    open_as(client, round.project, "researcher", "")
    one = queries()
    finish(launch_round(project=round.project, snapshot=round.snapshot, parent=round.parent, mitigation=True))
    assert queries() == one


def test_a_failed_round_says_why_in_a_sentence(client, round):
    held = lease.claim(round.pk, owner="test")
    with lease.fenced(held) as mine:
        lease.close(mine, "failed", code="disk_full", error="Stage reward failed: no space. Free some.")
    page = open_as(client, round.project, "researcher", "1/").content.decode()
    assert "disk_full" in page and "Free some." in page
