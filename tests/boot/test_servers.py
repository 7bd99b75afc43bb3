"""The real processes that tests and `up` run, and what they report of themselves."""

import json

import httpx
import pytest
from django.core.management import call_command
from django.db.migrations.recorder import MigrationRecorder

from labelapp import health
from labelapp.models import Process
from tests.servers import wait_until


@pytest.mark.services
def test_web_and_worker_report_themselves_and_status_shows_them(web_server, celery_worker, capsys):
    url = web_server()
    worker = celery_worker("default")
    assert httpx.get(f"{url}/healthz").json() == {"status": "alive"}
    wait_until(Process.objects.filter(kind="web").exists, what="the web process's heartbeat")

    call_command("status", json=True)
    found = json.loads(capsys.readouterr().out)
    kinds = {process["kind"]: process for process in found["processes"]}
    assert kinds["worker"]["pid"] == worker.pid
    assert kinds["worker"]["version"] == found["version"] == "0.1.0"
    assert kinds["web"]["heartbeat_age_seconds"] < 60
    assert found["queues"] == {"default": 0, "training": 0}
    assert found["slots"] == found["rounds"] == {}


@pytest.mark.services
@pytest.mark.django_db
def test_ready_asks_database_and_broker_and_names_the_missing_engine(client):
    answer = client.get("/readyz")
    assert answer.status_code == 503
    body = answer.json()
    assert (body["database"], body["broker"]) == ("ok", "ok")
    assert body["engine"] != "ok"


@pytest.mark.django_db
def test_not_ready_while_a_migration_waits(client):
    health._seen.clear()
    last = MigrationRecorder.Migration.objects.filter(app="labelapp").order_by("name").last()
    last.delete()
    assert "migrate" in client.get("/readyz").json()["database"]


def test_not_ready_without_its_broker_but_alive(web_server):
    url = web_server(BROKER_URL="redis://127.0.0.1:1/0", CACHE_URL="redis://127.0.0.1:1/0")
    answer = httpx.get(f"{url}/readyz", timeout=30)
    assert answer.status_code == 503
    assert answer.json()["database"] == "ok"
    assert answer.json()["broker"] != "ok"
