"""The event stream, over a real server."""

import contextlib
import json
import threading

import httpx
import pytest
from django.test import Client

from labelapp.models import MetricRow, Round
from labelapp.rounds import lease
from labelapp.rounds.actions import request_cancel
from tests.factories import make_project, make_user
from tests.rounds.material import queue_reward_round
from tests.servers import wait_until

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def round():
    round = queue_reward_round(make_project(researcher=make_user()))
    lease.claim(round.pk, owner="test")
    round.refresh_from_db()
    return round


class Listener(threading.Thread):
    """Reads one stream to its end; `events` are (name, id, data)."""

    def __init__(self, round: Round, address: str, **headers: str):
        super().__init__(daemon=True)
        session = Client()
        session.force_login(round.project.memberships.get().user)
        self.cookies = {"sessionid": session.cookies["sessionid"].value}
        self.url, self.headers = f"{address}/p/{round.project.slug}/rounds/{round.number}/events", headers
        self.events, self.answer, self.closed = [], None, False
        self.start()

    def run(self):
        with contextlib.suppress(httpx.RemoteProtocolError):  # the test is over and its server killed
            self.listen()

    def listen(self):
        with httpx.stream("GET", self.url, cookies=self.cookies, headers=self.headers, timeout=60) as self.answer:
            block = {}
            for line in self.answer.iter_lines():
                if line and not line.startswith(":"):
                    name, _, value = line.partition(": ")
                    block[name] = value
                elif "data" in block:
                    self.events.append((block["event"], block.get("id"), json.loads(block["data"])))
                    block = {}
        self.closed = True

    def heard(self, name: str) -> list:
        return [event for event in self.events if event[0] == name]

    def wait_for(self, name: str, count: int = 1) -> None:
        wait_until(lambda: len(self.heard(name)) >= count, what=f"{count} {name} events")


def measure(round: Round, *steps: int) -> None:
    stage = round.stages.get()
    stage.steps, stage.state = 9, "running"
    stage.save()
    MetricRow.objects.bulk_create(
        MetricRow(stage=stage, step=step, values={"step": step, "loss_nats": 1 / step}) for step in steps
    )


def test_a_listener_hears_metrics_as_they_come_and_the_end(web_server, round):
    listener = Listener(round, web_server())
    for number in (1, 2, 3):
        measure(round, number)
        listener.wait_for("metrics", number)
    request_cancel(round=round)
    with lease.fenced(lease.Claim(round.pk, round.token)) as mine:
        lease.close(mine, "cancelled")
    listener.join(60)

    assert listener.closed
    assert listener.answer.headers["content-type"] == "text/event-stream"
    assert listener.answer.headers["x-accel-buffering"] == "no"
    assert [event[2]["rows"][0]["step"] for event in listener.heard("metrics")] == [1, 2, 3]
    (drawing,) = listener.heard("metrics")[-1][2]["curves"]["reward"]
    assert drawing["key"] == "loss_nats" and drawing["smooth"].startswith("M")
    assert listener.events[-1][0] == "end" and listener.events[-1][2] == {"state": "cancelled"}


def test_a_reconnect_continues_behind_the_last_row_it_knows(web_server, round):
    measure(round, 1, 2, 3)
    known = MetricRow.objects.get(step=2).pk
    listener = Listener(round, web_server(), **{"Last-Event-ID": str(known)})
    listener.wait_for("metrics")
    (_, number, data) = listener.heard("metrics")[0]
    assert [row["step"] for row in data["rows"]] == [3]
    assert int(number) == MetricRow.objects.get(step=3).pk
    assert data["curves"]["reward"][0]["raw"].count("L") == 2, "the curve still has the points before"


def test_the_stream_ends_with_the_membership(web_server, round):
    listener = Listener(round, web_server())
    listener.wait_for("progress")
    round.project.memberships.all().delete()
    wait_until(lambda: listener.closed, what="the end of the stream")
    assert not listener.heard("end")


def test_the_stream_ends_with_the_session(web_server, round):
    listener = Listener(round, web_server())
    listener.wait_for("progress")
    session = Client(cookies=None)
    session.cookies["sessionid"] = listener.cookies["sessionid"]
    session.logout()
    wait_until(lambda: listener.closed, what="the end of the stream")


def test_a_sleeping_stream_holds_no_database_connection(web_server, round):
    from django.db import connection

    address = web_server()
    listeners = [Listener(round, address) for _ in range(6)]
    for listener in listeners:
        listener.wait_for("progress")

    def nobody_connected() -> bool:
        with connection.cursor() as cursor:
            cursor.execute("SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()")
            return cursor.fetchone()[0] <= 2  # this test's own and the server's heartbeat

    wait_until(nobody_connected, what="a moment without connections")
    assert not any(listener.closed for listener in listeners)
