"""Marking one comparison as gold, on its page."""

import pytest
from django.test import Client

from labelapp.models import Comparison
from tests.factories import add_member, make_comparison, make_project, make_user


@pytest.fixture
def project(db):
    return make_project("debates", admin=make_user("adm"))


@pytest.fixture
def row(project):
    return make_comparison(project, "good", "bad", "ugly")


@pytest.fixture
def web(client, project):
    client.force_login(project.memberships.get(role="admin").user)
    return client


def address(row, more="") -> str:
    return f"/p/debates/data/comparisons/{row.pk}/gold/{more}"


@pytest.mark.parametrize("role", ["labeler", "reviewer", "researcher"])
def test_only_admins_say_what_is_right(client, project, row, role):
    person = make_user()
    add_member(project, person, role)
    client.force_login(person)
    assert {client.get(address(row)).status_code, client.post(address(row)).status_code} == {403}
    assert client.post(address(row, "remove/")).status_code == 403


def test_strangers_other_projects_and_forgeries(client, project, row, web):
    stranger = make_user()
    make_project("elsewhere", admin=stranger)
    other = Client()
    other.force_login(stranger)
    assert other.get(address(row)).status_code == 404
    assert other.post(address(row).replace("debates", "elsewhere"), {"best": "0"}).status_code == 404
    strict = Client(enforce_csrf_checks=True)
    strict.force_login(project.memberships.get(role="admin").user)
    assert strict.post(address(row), {"best": "0"}).status_code == 403
    assert web.get(address(row, "remove/")).status_code == 405


@pytest.mark.parametrize(
    ("said", "gold"),
    [({"best": "1"}, [[1], [0, 2]]), ({"best": ["2", "0"]}, [[0, 2], [1]]), ({"best": ["0", "1", "2"]}, [[0, 1, 2]]),
     ({"both_bad": "on"}, {"both_bad": True})],
)  # fmt: skip
def test_the_right_answer_is_kept_and_can_be_taken_back(web, row, said, gold):
    page = web.post(address(row), {**said, "explanation": "It cites a source."}, follow=True).content.decode()
    kept = Comparison.objects.get()
    assert (kept.gold, kept.explanation) == (gold, "It cites a source.")
    assert "is gold now" in page and "Change what is right" in page
    assert "It cites a source." in web.get(address(row)).content.decode()
    assert row.slots.get().state == "closed"
    web.post(address(row, "remove/"))
    assert Comparison.objects.get().gold is None and row.slots.get().state == "open"


@pytest.mark.parametrize("said", [{}, {"best": "0", "both_bad": "on"}, {"best": "7"}])
def test_what_says_nothing_or_too_much_is_refused(web, row, said):
    assert web.post(address(row), said).status_code == 422
    assert Comparison.objects.get().gold is None
