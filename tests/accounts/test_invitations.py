"""Invitations: shown once, good for a time and a number of people, and the last use is given once."""

import threading
from datetime import timedelta

import pytest
from django.core.management import CommandError, call_command
from django.db import connection
from django.test import Client
from django.utils import timezone

from labelapp.accounts.invitations import InvitationRefused, digest, invite, join, revoke_invitation
from labelapp.accounts.people import PeopleRefused
from labelapp.models import Invitation, Membership, Process, User
from tests.factories import add_member, make_project, make_user

pytestmark = pytest.mark.usefixtures("no_attempts_yet")
ACCOUNT = {"username": "nora", "password": "a quiet green lamp", "email": ""}


@pytest.fixture
def admin(db):
    return make_user("adm")


@pytest.fixture
def project(admin):
    return make_project("convincing", admin=admin)


def make_link(project, *, role="labeler", uses=1, tags=(), hours=24):
    by = project.memberships.get(role="admin").user
    invitation, token = invite(
        project=project, by=by, role=role, uses=uses, tags=tags, expires_in=timedelta(hours=hours)
    )
    return invitation, f"/join/{token}/"


def text(response) -> str:
    return response.content.decode()


def test_an_admin_makes_a_link_that_is_shown_once(client, project, admin):
    client.force_login(admin)
    data = {"role": "reviewer", "tags": "german", "hours": "24", "uses": "3"}
    page = client.post("/p/convincing/people/invite/", data)
    link = page.context["link"]
    token = link.split("/join/")[1].rstrip("/")
    invitation = Invitation.objects.get()
    assert link.startswith("http://testserver/join/") and link in text(page)
    assert (invitation.token_sha256, invitation.uses_left, invitation.tags) == (digest(token), 3, ["german"])
    assert token not in text(client.get("/p/convincing/people/"))
    client.post(f"/p/convincing/people/invitations/{invitation.pk}/revoke/")
    assert "was revoked" in text(Client().get(f"/join/{token}/"))


def test_an_admin_is_not_invited_by_accident(client, project, admin):
    client.force_login(admin)
    data = {"role": "admin", "hours": "24", "uses": "1"}
    assert client.post("/p/convincing/people/invite/", data).status_code == 422
    assert not Invitation.objects.exists()
    assert client.post("/p/convincing/people/invite/", data | {"sure": "on"}).status_code == 200


@pytest.mark.parametrize(
    "bad",
    [{"role": "king"}, {"uses": 0}, {"uses": 10_000}, {"expires_in": timedelta(minutes=5)},
     {"expires_in": timedelta(days=31)}, {"tags": ["x" * 50]}],
)  # fmt: skip
def test_what_cannot_be_invited_is_refused(project, admin, bad):
    given = {"role": "labeler", "uses": 1, "expires_in": timedelta(days=1)} | bad
    with pytest.raises(PeopleRefused):
        invite(project=project, by=admin, **given)


def test_whoever_is_signed_in_confirms_and_joins(client, project):
    invitation, link = make_link(project, tags=["german"])
    person = make_user()
    client.force_login(person)
    assert "Join Convincing" in text(client.get(link))
    assert not Membership.objects.filter(user=person).exists()
    assert client.post(link).url == "/p/convincing/label/"
    joined = Membership.objects.get(user=person)
    assert (joined.role, joined.tags) == ("labeler", ["german"])
    invitation.refresh_from_db()
    assert invitation.uses_left == 0
    assert "used up" in text(Client().get(link))


def test_joining_needs_a_token(project):
    _, link = make_link(project)
    strict = Client(enforce_csrf_checks=True)
    strict.force_login(make_user())
    assert strict.post(link).status_code == 403
    assert Client(enforce_csrf_checks=True).post(link, ACCOUNT).status_code == 403


def test_whoever_has_no_account_makes_one_and_is_signed_in(client, project):
    _, link = make_link(project)
    assert f"/accounts/login/?next={link}" in text(client.get(link))
    assert client.post(link, ACCOUNT | {"is_staff": "on", "is_superuser": "on"}).url == "/p/convincing/label/"
    user = User.objects.get(username="nora")
    assert user.check_password(ACCOUNT["password"]) and not user.is_staff and not user.is_superuser
    assert client.get("/p/convincing/label/").status_code == 200
    assert client.get("/p/convincing/people/").status_code == 403


@pytest.mark.parametrize(
    ("bad", "said"),
    [({"password": "short"}, "too short"), ({"username": "norabottle", "password": "norabottle1"}, "too similar"),
     ({"password": "password1234"}, "too common"), ({"username": "ADM"}, "already exists"),
     ({"username": "a b<c"}, "valid username"), ({"email": "adm@example.org"}, "has this e-mail already")],
)  # fmt: skip
def test_an_account_that_cannot_be_is_refused_and_nothing_is_used_up(client, project, admin, bad, said):
    User.objects.filter(pk=admin.pk).update(email="Adm@example.org")
    invitation, link = make_link(project)
    page = client.post(link, ACCOUNT | bad)
    assert page.status_code == 422 and said in text(page)
    invitation.refresh_from_db()
    assert invitation.uses_left == 1 and User.objects.count() == 1


def test_allauths_own_sign_up_stays_closed(client, db):
    client.post("/accounts/signup/", {"username": "eve", "password1": "a quiet green lamp"})
    assert not User.objects.exists()


def test_a_link_from_nowhere_names_no_project(client, project):
    page = client.get("/join/0123456789abcdef0123456789abcdef/")
    assert page.status_code == 404 and "opens nothing" in text(page) and project.name not in text(page)
    assert client.post("/join/nothing/", ACCOUNT).status_code == 404
    assert not User.objects.filter(username="nora").exists()


@pytest.mark.parametrize(
    ("change", "said"),
    [({"expires_at": timezone.now() - timedelta(hours=1)}, "has expired"), ({"uses_left": 0}, "used up"),
     ({"revoked_at": timezone.now()}, "was revoked")],
)  # fmt: skip
def test_a_link_that_was_good_says_why_it_is_not(client, project, change, said):
    invitation, link = make_link(project)
    Invitation.objects.filter(pk=invitation.pk).update(**change)
    for answer in (client.get(link), client.post(link, ACCOUNT)):
        assert answer.status_code == 410 and said in text(answer)
    client.force_login(make_user())
    assert client.post(link).status_code == 410
    assert Membership.objects.count() == 1 and not User.objects.filter(username="nora").exists()


def test_members_keep_the_higher_role_and_use_nothing_up(project, admin):
    invitation, link = make_link(project, tags=["german"])
    assert join(token=link.split("/")[2], user=admin).how == "already"
    invitation.refresh_from_db()
    kept = Membership.objects.get(user=admin)
    assert (kept.role, kept.tags, invitation.uses_left) == ("admin", ["german"], 1)


def test_a_higher_role_raises(project):
    person = make_user()
    add_member(project, person, "labeler")
    invitation, link = make_link(project, role="researcher")
    assert join(token=link.split("/")[2], user=person).how == "raised"
    invitation.refresh_from_db()
    assert Membership.objects.get(user=person).role == "researcher" and invitation.uses_left == 0


def test_the_first_revocation_stands(project):
    invitation, _ = make_link(project)
    revoke_invitation(invitation=invitation)
    first = Invitation.objects.get().revoked_at
    revoke_invitation(invitation=invitation)
    assert Invitation.objects.get().revoked_at == first


def test_too_many_attempts_are_stopped(client, project):
    answers = [client.post("/join/nothing/", ACCOUNT).status_code for _ in range(21)]
    assert answers[0] == 404 and answers[-1] == 429


@pytest.mark.django_db(transaction=True)
def test_the_last_use_is_given_once(project):
    _, link = make_link(project, uses=3)
    people = [make_user() for _ in range(12)]
    outcomes = at_once(lambda person: join(token=link.split("/")[2], user=person).how, people)
    assert sorted(outcomes) == ["joined"] * 3 + ["used"] * 9
    assert Membership.objects.filter(role="labeler").count() == 3
    assert Invitation.objects.get().uses_left == 0


@pytest.mark.django_db(transaction=True)
def test_a_double_click_joins_once_and_uses_one(project):
    _, link = make_link(project, uses=5)
    person = make_user()
    outcomes = at_once(lambda user: join(token=link.split("/")[2], user=user).how, [person] * 6)
    assert sorted(outcomes) == ["already"] * 5 + ["joined"]
    assert Invitation.objects.get().uses_left == 4


def at_once(act, people) -> list[str]:
    """What each got, all begun together."""
    outcomes, barrier = [], threading.Barrier(len(people))

    def run(person):
        barrier.wait()
        try:
            outcomes.append(act(person))
        except InvitationRefused as refusal:
            outcomes.append(refusal.why)
        finally:
            connection.close()

    threads = [threading.Thread(target=run, args=[person]) for person in people]
    [thread.start() for thread in threads]
    [thread.join() for thread in threads]
    return outcomes


def test_the_shell_prints_a_link_that_works(client, project, capsys):
    call_command("invite", "convincing", "--role", "researcher", "--expires", "12h", "--uses", "2")
    link = capsys.readouterr().out.strip()
    assert link.startswith("http://127.0.0.1:8000/join/")
    assert "invited as researcher" in text(client.get(link.removeprefix("http://127.0.0.1:8000")))
    found = {"address": "http://127.0.0.1:8877"}
    Process.objects.create(kind="web", name="web-1", pid=1, detail=found, heartbeat_at=timezone.now())
    call_command("invite", "convincing")
    assert capsys.readouterr().out.startswith("http://127.0.0.1:8877/join/")
    call_command("invite", "convincing", "--json", "--address", "https://label.example/")
    assert '"link": "https://label.example/join/' in capsys.readouterr().out


@pytest.mark.parametrize("bad", [["--expires", "soon"], ["--expires", "31d"], ["--uses", "0"], ["--role", "admin"]])
def test_the_shell_says_what_is_wrong(project, bad):
    with pytest.raises(CommandError):
        call_command("invite", "convincing", *bad)
