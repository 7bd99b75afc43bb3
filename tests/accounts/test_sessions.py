"""A session is read with its person in one statement, and says at once what has changed."""

import pytest
from django.contrib.auth import SESSION_KEY

from labelapp.accounts import sessions
from labelapp.models import Membership
from tests.factories import add_member, make_project, make_user


@pytest.fixture
def labeler(db):
    return make_user("lena")


@pytest.fixture
def project(labeler):
    return make_project("convincing", labeler=labeler)


@pytest.fixture
def web(client, labeler, project):
    """Signed in, with a session that this process has read before."""
    client.force_login(labeler)
    assert client.get("/p/convincing/label/").status_code == 200
    assert sessions._whose[client.session.session_key] == labeler.pk
    return client


def signed_in(client) -> bool:
    return client.get("/p/convincing/label/").status_code == 200


def test_who_is_known_costs_one_statement(web, django_assert_num_queries):
    with django_assert_num_queries(1):
        assert web.get("/p/elsewhere/label/").status_code == 404


def test_somebody_whose_session_is_new_to_this_process_costs_one_more(web, labeler, django_assert_num_queries):
    sessions._whose.clear()
    with django_assert_num_queries(2):
        assert web.get("/p/elsewhere/label/").status_code == 404


def test_who_signed_out_is_out(web):
    cookie = web.cookies["sessionid"].value
    web.logout()
    web.cookies["sessionid"] = cookie
    assert not signed_in(web)


def test_a_session_that_has_ended_lets_nobody_in(web):
    session = web.session
    session.model.objects.update(expire_date="2020-01-01T00:00Z")
    assert not signed_in(web)


def test_who_may_no_longer_sign_in_is_out(web, labeler):
    type(labeler).objects.update(is_active=False)
    assert not signed_in(web)


def test_a_new_password_ends_the_other_sessions(web, labeler):
    labeler.set_password("another long one")
    labeler.save()
    assert not signed_in(web)
    assert not web.session.session_key or SESSION_KEY not in web.session


def test_who_was_removed_sees_no_project(web, labeler):
    Membership.objects.filter(user=labeler).delete()
    assert web.get("/p/convincing/label/").status_code == 404


def test_a_new_role_counts_at_once(web, labeler, project):
    assert web.get("/p/convincing/people/").status_code == 403
    Membership.objects.filter(user=labeler).update(role="admin")
    assert web.get("/p/convincing/people/").status_code == 200


def test_the_session_says_who_it_is_whatever_was_remembered(web, labeler, project):
    admin = make_user("adm")
    add_member(project, admin, "admin")
    sessions._whose[web.session.session_key] = admin.pk
    assert web.get("/p/convincing/people/").status_code == 403
    assert sessions._whose[web.session.session_key] == labeler.pk


def test_a_session_that_somebody_wrote_into_the_table_says_nothing(web):
    session = web.session
    row = session.model.objects.get(pk=session.session_key)
    text, _, signature = row.session_data.rpartition(":")
    row.session_data = f"{text}:{signature[::-1]}"
    row.save()
    assert not signed_in(web)


def test_what_was_remembered_does_not_grow_for_ever(web, labeler, monkeypatch):
    monkeypatch.setattr(sessions, "MOST", 1)
    sessions._remember("one", labeler.pk)
    sessions._remember("two", labeler.pk)
    assert sessions._whose == {"two": labeler.pk}
