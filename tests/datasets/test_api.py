"""The snapshots as programs reach them."""

from pathlib import Path

import pytest
from django.test import Client
from django.urls import reverse

from labelapp.accounts.keys import create_key
from labelapp.datasets.actions import freeze_snapshot
from labelapp.models import Snapshot
from tests.datasets.test_pages import body_of, project, signed_in, snapshot  # noqa: F401
from tests.factories import make_project


@pytest.fixture
def with_key(project):  # noqa: F811
    return Client(headers={"Authorization": f"Bearer {create_key(project=project, name='k')[1]}"})


def test_a_key_lists_freezes_reads_and_downloads(project, with_key):  # noqa: F811
    address = reverse("api-snapshots", args=[project.slug])
    assert with_key.get(address).json() == []
    made, again = with_key.post(address), with_key.post(address)
    assert (made.status_code, again.status_code) == (201, 200) and made.json() == again.json()
    digest = made.json()["digest"]
    assert [row["digest"] for row in with_key.get(address).json()] == [digest]
    one = with_key.get(reverse("api-snapshot", args=[project.slug, digest])).json()
    assert one["manifest"]["counts"]["judgments"] == one["judgments"] == 6
    file = with_key.get(reverse("api-snapshot-file", args=[project.slug, digest, "pairs-train.jsonl"]))
    assert len(body_of(file).splitlines()) == 1


def test_a_changed_file_is_a_conflict_and_named(with_key, snapshot):  # noqa: F811
    (Path(snapshot.path) / "judgments.jsonl").write_text("{}\n")
    response = with_key.post(reverse("api-snapshots", args=["debates"]))
    assert response.status_code == 409 and "judgments.jsonl" in response.json()["detail"]


def test_a_key_opens_its_own_project_alone(with_key, snapshot):  # noqa: F811
    other = make_project("other")
    assert with_key.get(reverse("api-snapshots", args=[other.slug])).status_code == 404
    assert with_key.post(reverse("api-snapshots", args=[other.slug])).status_code == 404


def test_a_wrong_key_is_refused(snapshot):  # noqa: F811
    client = Client(headers={"Authorization": "Bearer lab_AAAAAAAA_" + "b" * 43})
    assert client.get(reverse("api-snapshots", args=["debates"])).status_code == 401


def test_a_session_needs_its_csrf_token_to_freeze(project):  # noqa: F811
    from labelapp.models import User

    client = Client(enforce_csrf_checks=True)
    client.force_login(User.objects.get(username="res"))
    assert client.post(reverse("api-snapshots", args=["debates"])).status_code == 403
    assert not Snapshot.objects.exists()


def test_nothing_to_freeze_is_a_conflict_with_a_reason(db, settings, tmp_path):
    settings.ARTIFACT_DIR = tmp_path
    empty = make_project("empty")
    client = Client(headers={"Authorization": f"Bearer {create_key(project=empty, name='k')[1]}"})
    response = client.post(reverse("api-snapshots", args=["empty"]))
    assert response.status_code == 409 and "no judgment yet" in response.json()["detail"]


def test_a_snapshot_cannot_be_changed_or_deleted(snapshot):  # noqa: F811
    address = reverse("api-snapshot", args=["debates", snapshot.digest])
    client = signed_in("adm")
    assert {client.delete(address).status_code, client.put(address).status_code} == {405}
    assert freeze_snapshot(project=snapshot.project, by=None) == snapshot
