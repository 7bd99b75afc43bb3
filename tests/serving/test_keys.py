"""Keys: shown once, kept as a hash, worthless when revoked."""

import json
from datetime import timedelta

import pytest
from django.core.management import CommandError, call_command
from django.utils import timezone
from rest_framework.decorators import api_view, authentication_classes
from rest_framework.response import Response
from rest_framework.test import APIRequestFactory

from labelapp.accounts.keys import ApiKeyAuthentication, KeyRefused, create_key, revoke_key, verify
from labelapp.models import ApiKey
from tests.factories import make_project

pytestmark = pytest.mark.django_db


def test_a_key_opens_its_project_and_its_secret_is_not_kept():
    key, token = create_key(project=make_project(), name="script")

    assert verify(token) == key
    assert len(token) == 56 and token.startswith(f"lab_{key.key_id}_")
    stored = json.dumps(list(ApiKey.objects.values()), default=str)
    assert token[13:] not in stored


def another_ending(token: str) -> str:
    return token[:-1] + ("a" if token[-1] != "a" else "b")


@pytest.mark.parametrize("spoil", [another_ending, str.upper, lambda token: token + "a", lambda token: ""])
def test_a_spoiled_token_opens_nothing(spoil):
    _, token = create_key(project=make_project(), name="script")

    with pytest.raises(KeyRefused):
        verify(spoil(token))


def test_a_revoked_token_opens_nothing():
    key, token = create_key(project=make_project(), name="script")
    verify(token)
    revoke_key(key=key)

    with pytest.raises(KeyRefused):
        verify(token)


def test_another_keys_secret_opens_nothing():
    project = make_project()
    (one, first), (_, second) = (create_key(project=project, name=name) for name in ("one", "two"))

    with pytest.raises(KeyRefused):
        verify(f"lab_{one.key_id}_{second[13:]}")
    assert verify(first) == one


def test_the_first_revocations_time_stands():
    key, _ = create_key(project=make_project(), name="script")
    revoke_key(key=key)
    key.refresh_from_db()
    first = key.revoked_at

    revoke_key(key=key)

    key.refresh_from_db()
    assert key.revoked_at == first


def test_use_is_noted_at_most_once_a_minute(django_assert_num_queries):
    key, token = create_key(project=make_project(), name="script")
    with django_assert_num_queries(2):
        verify(token)
    with django_assert_num_queries(1):
        verify(token)

    ApiKey.objects.filter(pk=key.pk).update(last_used_at=timezone.now() - timedelta(seconds=61))
    with django_assert_num_queries(2):
        verify(token)


def test_the_command_prints_a_key_that_works(capsys):
    project = make_project("argue")

    call_command("apikey", "argue", name="cron", json=True)

    made = json.loads(capsys.readouterr().out)
    assert verify(made["key"]).project == project and made["name"] == "cron"


def test_the_command_revokes_a_key_of_its_own_project_only(capsys):
    key, token = create_key(project=make_project("argue"), name="cron")
    make_project("other")

    with pytest.raises(CommandError, match="other has no key"):
        call_command("apikey", "other", revoke=key.key_id)
    assert verify(token)
    call_command("apikey", "argue", revoke=key.key_id)
    assert "opens nothing" in capsys.readouterr().out
    with pytest.raises(KeyRefused):
        verify(token)


@pytest.mark.parametrize(
    ("project", "name", "reason"),
    [
        ("nowhere", "x", "There is no project"),
        ("argue", " ", "Name the key"),
        ("argue", "x" * 81, "Name the key"),
        ("argue", "a\0b", "Name the key"),
    ],
)
def test_the_command_refuses_with_a_sentence(project, name, reason):
    make_project("argue")

    with pytest.raises(CommandError, match=reason):
        call_command("apikey", project, name=name)
    assert not ApiKey.objects.exists()


@api_view(["GET"])
@authentication_classes([ApiKeyAuthentication])
def whoami(request):
    return Response({"project": request.user.project.slug, "key": request.auth.name})


def test_rest_views_know_the_key_and_its_project():
    _, token = create_key(project=make_project("argue"), name="script")
    ask = APIRequestFactory().get

    assert whoami(ask("/", HTTP_AUTHORIZATION=f"Bearer {token}")).data == {"project": "argue", "key": "script"}
    for wrong in ({}, {"HTTP_AUTHORIZATION": "Bearer lab_nonsense"}):
        response = whoami(ask("/", **wrong))
        assert response.status_code == 401 and response["WWW-Authenticate"].startswith("Bearer")
