"""The event stream, over a real server and a real upstream: what reaches the client, byte by byte."""

import contextlib
import json
import socket
import threading
from uuid import uuid4

import httpx
import pytest
from django.test import Client

from labelapp.chat.actions import try_again
from labelapp.models import ChatTurn, Judgment
from tests import servers
from tests.chat.conftest import begin
from tests.servers import wait_until

pytestmark = pytest.mark.django_db(transaction=True)


class Listener(threading.Thread):
    """Reads one stream to its end, or until it leaves; keeps every byte."""

    def __init__(self, turn: ChatTurn, address: str, session: str, **headers: str):
        super().__init__(daemon=True)
        self.url = f"{address}/p/{turn.conversation.project.slug}/chat/turns/{turn.pk}/events/"
        self.cookies, self.headers = {"sessionid": session}, headers
        self.received, self.socket, self.status = b"", None, None
        self.start()

    def run(self):
        with (
            contextlib.suppress(httpx.HTTPError),
            httpx.stream("GET", self.url, cookies=self.cookies, headers=self.headers, timeout=60) as answer,
        ):
            self.status = answer.status_code
            self.socket = answer.extensions["network_stream"].get_extra_info("socket")
            for part in answer.iter_raw():
                self.received += part

    def leave(self):
        """Hang up at once, as a browser does whose page is closed."""
        self.socket.shutdown(socket.SHUT_RDWR)
        self.join(60)

    @property
    def events(self) -> list[tuple[str, str | None, dict]]:
        blocks = [block.split("\n") for block in self.received.decode().split("\n\n") if "data: " in block]
        rows = [dict(line.split(": ", 1) for line in block if ": " in line) for block in blocks]
        return [(row["event"], row.get("id"), json.loads(row["data"])) for row in rows]

    def texts(self) -> dict[int, str]:
        texts = {}
        for name, _, data in self.events:
            if name == "delta":
                texts[data["place"]] = texts.get(data["place"], "")[: data["at"]] + data["text"]
        return texts

    def wait_for(self, condition, what: str):
        wait_until(lambda: condition(self), what=what, seconds=60)


@pytest.fixture
def session(labeler):
    client = Client()
    client.force_login(labeler)
    return client


@pytest.fixture(scope="module")
def address(django_db_setup, tmp_path_factory):
    """One server for all tests here: what they have in common are its settings."""
    log = tmp_path_factory.mktemp("chat") / "web.log"
    with servers.web(log, UPSTREAM_SECONDS="2", DB_POOL="1", DB_POOL_MAX="3") as address:
        yield address


@pytest.fixture
def listen(address, session):
    def listen(turn, **headers):
        return Listener(turn, address, session.cookies["sessionid"].value, **headers)

    listen.address = address
    return listen


def models_at(turn) -> list[str]:
    return [side.upstream.name for side in turn.sides.select_related("upstream")]


def test_both_answers_come_through_one_stream_and_no_name_ever_does(project, labeler, upstream, listen):
    upstream.chunks["lion"] = ("Hello! I am Cla", "ude, made by Anth", "ropic. ", "Some call me Li", "on.")
    upstream.chunks["raven"] = ("I'm Cha", "tG", "PT", " by Open", "AI, alias R", "aven")
    turn = begin(project, labeler)
    listener = listen(turn)
    listener.join(60)

    turn.refresh_from_db()
    assert (turn.state, turn.error) == ("ready", "")
    sides = dict(zip(models_at(turn), (0, 1), strict=True))
    texts = listener.texts()
    assert texts[sides["lion"]] == "Hello! I am [model], made by [maker]. Some call me [model]."
    assert texts[sides["raven"]] == "I'm [model] by [maker], alias [model]"
    assert [name for name, *_ in listener.events][-1] == "end"
    assert {data["place"] for name, _, data in listener.events if name == "finished"} == {0, 1}
    said = listener.received.decode().lower()
    for name in ("claude", "ude,", "anth", "ropic", "chatg", "openai", "lion", "raven", "policy"):
        assert name not in said
    turn.refresh_from_db()
    assert turn.state == "ready" and all(side.masked for side in turn.sides.all())


def test_the_first_words_come_while_the_rest_is_held_back(project, labeler, upstream, listen):
    upstream.chunks["lion"] = ("Once upon a time. I am Cla", "ude.")
    go_on = [upstream.gate(name) for name in ("lion", "raven")]
    turn = begin(project, labeler)
    place = models_at(turn).index("lion")
    listener = listen(turn)
    listener.wait_for(lambda heard: heard.texts().get(place), "the first words")
    assert listener.texts()[place].strip() == "Once upon a time. I am"
    for go in go_on:
        go()
    listener.join(60)
    assert listener.texts()[place] == "Once upon a time. I am [model]."


def test_a_reconnect_goes_on_where_the_last_one_ended_and_the_models_are_asked_once(
    project, labeler, upstream, listen
):
    go_on = [upstream.gate(name) for name in ("lion", "raven")]
    turn = begin(project, labeler)
    first = listen(turn)
    first.wait_for(lambda heard: len(heard.texts()) == 2, "first words of both")
    first.leave()
    last = first.events[-1][1]
    second = listen(turn, **{"Last-Event-ID": last})
    for go in go_on:
        go()
    second.join(60)
    assert second.events[-1][0] == "end" and all(text for text in second.texts().values())
    turn.refresh_from_db()
    for side in turn.sides.all():
        begun = int(last.split("-")[1 + side.place])
        (start,) = {data["at"] for name, _, data in second.events if name == "delta" and data["place"] == side.place}
        assert start == begun > 0 and side.text[:begun] + second.texts()[side.place] == side.text
    assert len(upstream.asked) == 2


def test_a_vote_ends_the_generation_of_both_sides(project, labeler, upstream, listen, session):
    for name in ("lion", "raven"):
        upstream.chunks[name] = (f"{name[0]} says quite a lot. ", "And more.")
        upstream.gate(name)
    turn = begin(project, labeler)
    listener = listen(turn)
    listener.wait_for(lambda heard: len(heard.texts()) == 2, "first words of both")
    fields = {f"seen_{place}": len(text) for place, text in listener.texts().items()}
    session.post(
        f"/p/{project.slug}/chat/turns/{turn.pk}/judge/", {"submission_id": uuid4(), "answer": "2", **fields}
    )
    listener.join(60)
    assert listener.events[-1] == ("end", None, {"state": "judged"})
    wait_until(lambda: sorted(upstream.hung_up) == ["lion", "raven"], what="hanging up on both models")
    judgment = Judgment.objects.get()
    shown = [completion.text for completion in judgment.comparison.ordered_completions()]
    assert sorted(shown) == sorted(listener.texts().values())


def test_when_the_labeler_leaves_the_models_are_hung_up_on(project, labeler, upstream, listen):
    for name in ("lion", "raven"):
        upstream.gate(name)
    turn = begin(project, labeler)
    listener = listen(turn)
    listener.wait_for(lambda heard: len(heard.texts()) == 2, "first words of both")
    listener.leave()
    wait_until(lambda: sorted(upstream.hung_up) == ["lion", "raven"], what="hanging up on both models")
    turn.refresh_from_db()
    assert turn.state == "failed" and "page was left" in turn.error


def test_a_model_that_hangs_fails_the_turn_and_another_try_streams_anew(project, labeler, upstream, listen):
    upstream.trouble["lion"] = "hang"
    turn = begin(project, labeler)
    listener = listen(turn)
    listener.join(60)
    assert listener.events[-1] == ("end", None, {"state": "failed"})
    turn.refresh_from_db()
    assert "did not answer in time" in turn.error
    upstream.trouble.clear()
    try_again(turn_id=turn.pk, labeler=labeler)
    again = listen(turn, **{"Last-Event-ID": "1-5-5"})
    again.join(60)
    assert again.events[-1][2] == {"state": "ready"}
    assert {data["at"] for name, _, data in again.events if name == "delta" and data["at"] == 0} == {0}


def test_the_stream_of_a_turn_is_its_labelers_alone(project, labeler, upstream, listen):
    from tests.factories import add_member, make_user

    turn, other = begin(project, labeler), make_user()
    add_member(project, other, "admin")
    client = Client()
    client.force_login(other)
    stranger = Listener(turn, listen.address, client.cookies["sessionid"].value)
    stranger.join(60)
    nobody = Listener(turn, listen.address, "")
    nobody.join(60)
    assert (stranger.status, nobody.status) == (404, 302)
    assert upstream.asked == []


def test_the_stream_ends_with_the_membership(project, labeler, upstream, listen):
    for name in ("lion", "raven"):
        upstream.gate(name)
    listener = listen(begin(project, labeler))
    listener.wait_for(lambda heard: heard.texts(), "first words")
    project.memberships.filter(user=labeler).delete()
    listener.join(60)
    assert "end" not in [name for name, *_ in listener.events]


def test_more_streams_than_database_connections_are_open_at_once(project, labeler, upstream, listen):
    for name in ("lion", "raven"):
        upstream.gate(name)
    turn = begin(project, labeler)
    listeners = [listen(turn) for _ in range(8)]  # the server may have 3 connections
    for listener in listeners:
        listener.wait_for(lambda heard: len(heard.texts()) == 2, "first words of both")
    assert len(upstream.asked) == 2
