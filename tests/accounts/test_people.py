"""The people page: who may, what an admin changes, and that leases are free at once."""

import pytest
from django.core.management import call_command
from django.test import Client

from labelapp.accounts.people import PeopleRefused, change_role, free_leases, remove_member
from labelapp.labeling.quality.reask import reask
from labelapp.labeling.queue import claim_slot
from labelapp.models import Judgment, Membership, Slot
from tests.factories import add_member, make_comparison, make_project, make_user
from tests.labeling.conftest import claim_and_answer

ACTS = ("change", "pause", "resume", "let-in", "try-again", "remove")


@pytest.fixture
def admin(db):
    return make_user("adm")


@pytest.fixture
def labeler(db):
    return make_user("lena")


@pytest.fixture
def project(admin, labeler):
    return make_project("convincing", labeler=labeler, admin=admin)


@pytest.fixture
def web(client, admin, project):
    client.force_login(admin)
    return client


def member(project, user) -> Membership:
    return project.memberships.get(user=user)


def gets(project) -> list[str]:
    return ["/p/convincing/people/", f"/p/convincing/people/{project.memberships.first().pk}/"]


def posts(project) -> list[str]:
    one = project.memberships.first().pk
    return ["/p/convincing/people/invite/", "/p/convincing/people/invitations/1/revoke/"] + [
        f"/p/convincing/people/{one}/{act}/" for act in ACTS
    ]


@pytest.mark.parametrize("role", ["labeler", "reviewer", "researcher"])
def test_only_admins_get_in(client, project, role):
    person = make_user()
    add_member(project, person, role)
    client.force_login(person)
    assert {client.get(url).status_code for url in gets(project)} == {403}
    assert {client.post(url).status_code for url in posts(project)} == {403}
    assert Membership.objects.count() == 3


def test_strangers_and_the_admins_of_other_projects_learn_nothing(client, project):
    stranger = make_user()
    make_project("elsewhere", admin=stranger)
    client.force_login(stranger)
    assert {client.get(url).status_code for url in gets(project)} == {404}
    assert {client.post(url).status_code for url in posts(project)} == {404}
    other = [url.replace("convincing", "elsewhere") for url in (*gets(project)[1:], *posts(project)[1:])]
    assert {client.post(url).status_code for url in other if not url.endswith("people/")} <= {404, 405}
    assert Client().get(gets(project)[0]).url.startswith("/accounts/login/")


def test_every_write_needs_a_token(admin, project):
    strict = Client(enforce_csrf_checks=True)
    strict.force_login(admin)
    assert {strict.post(url).status_code for url in posts(project)} == {403}


def test_links_change_nothing(web, project):
    assert {web.get(url).status_code for url in posts(project)} == {405}


def test_role_tags_and_cap_are_changed_on_one_page(web, project, labeler):
    url = f"/p/convincing/people/{member(project, labeler).pk}/change/"
    page = web.post(url, {"role": "reviewer", "tags": "German, math,german", "daily_cap": "40"}, follow=True)
    changed = member(project, labeler)
    assert (changed.role, changed.tags, changed.daily_cap) == ("reviewer", ["german", "math"], 40)
    assert "Saved: lena is reviewer." in page.content.decode()


@pytest.mark.parametrize("bad", [{"role": "king"}, {"daily_cap": "-1"}, {"tags": "x" * 41}])
def test_what_cannot_be_is_named_and_nothing_changes(web, project, labeler, bad):
    url = f"/p/convincing/people/{member(project, labeler).pk}/change/"
    assert web.post(url, {"role": "admin", **bad}).status_code == 422
    assert member(project, labeler).role == "labeler"


def test_the_last_admin_stays(web, project, admin):
    one = member(project, admin)
    for act, data in (("change", {"role": "labeler"}), ("remove", {})):
        page = web.post(f"/p/convincing/people/{one.pk}/{act}/", data)
        assert page.status_code == 409 and "only admin of this project" in page.content.decode()
    second = make_user()
    add_member(project, second, "admin")
    assert web.post(f"/p/convincing/people/{one.pk}/remove/").url == "/"
    with pytest.raises(PeopleRefused):
        change_role(member=member(project, second), role="labeler")


def test_an_admin_whose_account_is_closed_does_not_count(project, admin):
    gone = make_user()
    add_member(project, gone, "admin")
    gone.is_active = False
    gone.save()
    with pytest.raises(PeopleRefused):
        remove_member(member=member(project, admin))


def test_who_is_paused_loses_the_lease_at_once_and_gets_nothing(web, project, labeler):
    make_comparison(project)
    slot = claim_slot(project=project, labeler=labeler)
    url = f"/p/convincing/people/{member(project, labeler).pk}/"
    assert web.post(url + "pause/", {"reason": " "}).status_code == 409
    web.post(url + "pause/", {"reason": "Please call me."})
    slot.refresh_from_db()
    assert (slot.state, slot.labeler_id) == ("open", None)
    assert claim_slot(project=project, labeler=labeler) is None
    other = make_user()
    add_member(project, other, "labeler")
    assert claim_slot(project=project, labeler=other) == slot
    free_leases(project=project, user=other)
    web.post(url + "resume/")
    assert claim_slot(project=project, labeler=labeler) == slot


def test_who_is_let_in_needs_no_quiz(web, project, labeler):
    make_comparison(project)
    type(project).objects.update(quiz_items=3, quiz_right=2)
    assert claim_slot(project=project, labeler=labeler) is None
    web.post(f"/p/convincing/people/{member(project, labeler).pk}/let-in/")
    assert claim_slot(project=project, labeler=labeler)


def test_another_quiz_needs_gold_that_was_not_seen(web, project, labeler):
    type(project).objects.update(quiz_items=1)
    page = web.post(f"/p/convincing/people/{member(project, labeler).pk}/try-again/")
    assert page.status_code == 409 and "has seen all gold there is" in page.content.decode()


def test_who_is_removed_leaves_judgments_and_no_lease(web, project, labeler):
    for _ in range(3):
        make_comparison(project)
    judgment = claim_and_answer(project, labeler)
    assert reask(judgments=[judgment], note="new rules") == 1
    held = claim_slot(project=project, labeler=labeler)  # the one that is asked again
    free = claim_slot(project=project, labeler=labeler, holding=[held.pk])
    web.post(f"/p/convincing/people/{member(project, labeler).pk}/remove/")
    assert not project.memberships.filter(user=labeler).exists()
    assert Judgment.objects.standing().get() == judgment
    assert Slot.objects.get(pk=held.pk).state == "done" and Slot.objects.get(pk=free.pk).state == "open"
    assert not Slot.objects.filter(state="leased").exists()


def test_the_shell_lists_people(project, capsys):
    call_command("people", "convincing", "--json")
    assert '"username": "lena", "role": "labeler"' in capsys.readouterr().out
    call_command("people", "convincing")
    assert "0 today, 0 in 7 days" in capsys.readouterr().out
