"""The serving page: who may see it, and what it says."""

import pytest
from django.urls import reverse
from django.utils import timezone

from labelapp.accounts.keys import create_key, verify
from labelapp.models import ApiKey, Deployment, EngineVersion, Process
from tests.factories import make_project, make_user, make_version

pytestmark = pytest.mark.django_db


@pytest.fixture
def people():
    return {role: make_user() for role in ("labeler", "researcher", "admin")}


@pytest.fixture
def project(people):
    return make_project("argue", **people)


@pytest.mark.parametrize(("role", "status"), [("labeler", 403), ("researcher", 200), ("admin", 200), (None, 404)])
def test_the_page_is_for_researchers_and_admins(client, project, people, role, status):
    client.force_login(people[role] if role else make_user())

    assert client.get("/p/argue/serving/").status_code == status
    assert client.get(reverse("serving-state", args=["argue"])).status_code == status


@pytest.mark.parametrize(("role", "status"), [("labeler", 403), ("researcher", 403), (None, 404)])
def test_only_an_admin_makes_and_revokes_keys(client, project, people, role, status):
    key, _ = create_key(project=project, name="script")
    client.force_login(people[role] if role else make_user())

    assert client.post(reverse("add-key", args=["argue"]), {"name": "mine"}).status_code == status
    assert client.post(reverse("revoke-key", args=["argue", key.pk])).status_code == status
    assert ApiKey.objects.get().revoked_at is None


def test_a_key_is_shown_once(client, project, people):
    client.force_login(people["admin"])

    answer = client.post(reverse("add-key", args=["argue"]), {"name": "evaluation"})

    token = answer.context["token"]
    assert verify(token).created_by == people["admin"]
    assert token in answer.text and "no-store" in answer["Cache-Control"]
    later = client.get("/p/argue/serving/").text
    assert token not in later and "evaluation" in later


def test_a_key_without_a_name_is_refused_on_the_page(client, project, people):
    client.force_login(people["admin"])

    answer = client.post(reverse("add-key", args=["argue"]), {"name": "  "})

    assert answer.status_code == 422 and "Name the key" in answer.text
    assert not ApiKey.objects.exists()


def test_an_admin_revokes_a_key_of_their_own_project_only(client, project, people):
    own, _ = create_key(project=project, name="own")
    other, _ = create_key(project=make_project(), name="other")
    client.force_login(people["admin"])

    assert client.post(reverse("revoke-key", args=["argue", own.pk])).status_code == 302
    assert client.post(reverse("revoke-key", args=["argue", other.pk])).status_code == 404
    own.refresh_from_db(), other.refresh_from_db()
    assert own.revoked_at and not other.revoked_at


def test_the_page_says_how_to_call_and_what_answers(client, project, people):
    version = make_version(project, name="policy-r1-aaaa", state="promoted")
    Deployment.objects.create(project=project, version=version, epoch=3)
    EngineVersion.objects.create(version=version, state="ready", load_seconds=1.25)
    Process.objects.create(kind="engine", name="engine", host="here", pid=1, heartbeat_at=timezone.now())
    client.force_login(people["researcher"])

    page = client.get("/p/argue/serving/").text

    assert 'base_url="http://testserver/v1"' in page and 'model="policy"' in page
    assert "policy-r1-aaaa" in page and "epoch 3" in page and "loaded in 1.25 s" in page and "answering" in page
    assert "Make a key" not in page


def test_a_silent_engine_is_said_to_be_silent(client, project, people):
    version = make_version(project, state="promoted")
    Deployment.objects.create(project=project, version=version)
    EngineVersion.objects.create(version=version, state="ready", load_seconds=1)
    client.force_login(people["researcher"])

    page = client.get(reverse("serving-state", args=["argue"])).text

    assert "not answering" in page and "not running" in page
