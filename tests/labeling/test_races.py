"""Many people at once, over HTTP, on two web processes: the database decides, not luck."""

import re
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from html.parser import HTMLParser

import httpx
import pytest
from django.test import Client

from labelapp.models import Judgment, Slot
from tests import servers
from tests.factories import add_member, make_comparison, make_project, make_user
from tests.labeling.conftest import claim_and_answer

pytestmark = [pytest.mark.services, pytest.mark.django_db(transaction=True)]
PAGE = "/p/convincing/label/"
PEOPLE = 32


@pytest.fixture(scope="module")
def addresses(django_db_setup, tmp_path_factory):
    """Two web processes, kept for all races here: starting them takes longer than the races."""
    logs = tmp_path_factory.mktemp("races")
    with servers.web(logs / "one.log") as one, servers.web(logs / "two.log") as two:
        yield [one, two]


@pytest.fixture
def crowded():
    """A project with 32 labelers, each with a session cookie."""
    project = make_project("convincing", overlap=3)
    people = [make_user() for _ in range(PEOPLE)]
    for person in people:
        add_member(project, person, "labeler")
    return project, people


def session_of(person) -> dict:
    client = Client()
    client.force_login(person)
    return {"sessionid": client.cookies["sessionid"].value}


def fields_of(page: str, form_id: str = "answer") -> dict | None:
    """The hidden fields of the answer form, or None where the page offers none."""
    match = re.search(rf'<form id="{form_id}".*?</form>', page, re.S)
    if match is None:
        return None
    fields = {}
    parser = HTMLParser()

    def start(tag, attributes):
        attributes = dict(attributes)
        if tag == "input" and attributes.get("type") == "hidden":
            fields[attributes["name"]] = attributes.get("value", "")

    parser.handle_starttag = start
    parser.feed(match[0])
    return fields


def judge_until_nothing_is_left(address: str, cookies: dict) -> list[int]:
    """One labeler's browser: answer whatever is handed out; wait where others hold the rest. Returns status codes."""
    statuses = []
    with httpx.Client(base_url=address, cookies=cookies, timeout=30) as browser:
        reply = browser.get(PAGE)
        while True:
            statuses.append(reply.status_code)
            form = fields_of(reply.text)
            if form:
                reply = browser.post(PAGE, data=form | {"answer": "-1"}, headers={"HX-Request": "true"})
            elif "Nothing free at the moment" in reply.text:
                reply = browser.get(PAGE)
            else:
                return statuses


@pytest.mark.faults
def test_32_people_on_the_last_20_slots_give_three_judgments_by_three_people_each(crowded, addresses):
    project, people = crowded
    comparisons = [make_comparison(project) for _ in range(7)]
    claim_and_answer(project, people[0])
    assert Slot.objects.filter(state="open").count() == 20
    sessions = [session_of(person) for person in people]

    with ThreadPoolExecutor(PEOPLE) as crowd:
        work = [
            crowd.submit(judge_until_nothing_is_left, addresses[number % 2], cookies)
            for number, cookies in enumerate(sessions)
        ]
    statuses = Counter(status for done in work for status in done.result())

    assert set(statuses) == {200}
    for comparison in comparisons:
        judged = comparison.judgments.values_list("labeler", "surplus", "replaces")
        assert len(judged) == 3
        assert len({labeler for labeler, *_ in judged}) == 3
        assert not any(surplus or replaces for _, surplus, replaces in judged)
    assert set(Slot.objects.values_list("state", flat=True)) == {"done"}
    assert Judgment.objects.count() == 21


def test_one_submission_sent_sixteen_times_at_once_is_one_judgment(crowded, addresses):
    project, people = crowded
    make_comparison(project)
    cookies = session_of(people[0])
    page = httpx.get(addresses[0] + PAGE, cookies=cookies, timeout=30)
    form = fields_of(page.text) | {"answer": "2"}
    cookies |= dict(page.cookies)

    def send(number):
        return httpx.post(addresses[number % 2] + PAGE, data=form, cookies=cookies, timeout=30)

    with ThreadPoolExecutor(16) as tabs:
        replies = list(tabs.map(send, range(16)))

    assert {reply.status_code for reply in replies} == {303}
    assert Judgment.objects.count() == 1


def test_one_person_in_sixteen_tabs_never_holds_two_slots_of_a_comparison(crowded, addresses):
    project, people = crowded
    for _ in range(2):
        make_comparison(project)
    cookies = session_of(people[0])

    def look(number):
        return httpx.get(addresses[number % 2] + PAGE, cookies=cookies, timeout=30)

    with ThreadPoolExecutor(16) as tabs:
        replies = list(tabs.map(look, range(16)))

    assert {reply.status_code for reply in replies} == {200}
    held = Slot.objects.filter(labeler=people[0], state="leased").values_list("comparison", flat=True)
    assert len(held) == len(set(held)) >= 1
