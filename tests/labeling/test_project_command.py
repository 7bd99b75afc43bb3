"""A project and its first admin, from the shell."""

import io
import json

import pytest
from django.core.management import call_command
from django.core.management.base import CommandError

from labelapp.labeling.protocol import parse
from labelapp.labeling.setup.presets import PRESETS
from labelapp.models import Project, User
from tests.factories import make_user

pytestmark = pytest.mark.django_db
PASSWORD = "a long and quiet river"


@pytest.fixture
def typed(monkeypatch):
    """What stands on the standard input."""
    return lambda text: monkeypatch.setattr("sys.stdin", io.StringIO(text))


def run(*words) -> dict:
    out = io.StringIO()
    call_command("project", *words, "--json", stdout=out)
    return json.loads(out.getvalue())


def test_the_first_project_comes_with_an_account_that_can_sign_in(typed, client):
    typed(f"{PASSWORD}\n")
    made = run("Talks & debates", "--preset", "helpsteer3", "--admin", "ada", "--description", "Which is better?")
    assert made == {
        "project": "talks-debates", "name": "Talks & debates", "preset": "helpsteer3", "admin": "ada",
        "new_account": True,
    }  # fmt: skip
    project = Project.objects.get(slug="talks-debates")
    assert parse(project.protocol_versions.get().definition) == PRESETS["helpsteer3"].protocol
    assert client.login(username="ada", password=PASSWORD)
    assert client.get("/p/talks-debates/setup/").status_code == 200


def test_an_account_that_is_there_keeps_its_password(typed):
    person = make_user("ada", "the old password")
    typed("")
    assert run("Talks", "--admin", "ada")["new_account"] is False
    person.refresh_from_db()
    assert person.check_password("the old password")


@pytest.mark.parametrize(
    ("words", "password", "says"),
    [
        (["Talks", "--admin", "ada"], "short", "too short"),
        (["Talks", "--admin", "ada"], "", "too short"),
        (["Talks", "--admin", "a da"], PASSWORD, "valid username"),
        ([" ", "--admin", "ada"], PASSWORD, "needs a name"),
        (["Talks", "--slug", "x y", "--admin", "ada"], PASSWORD, "'x y' must be letters"),
    ],
)
def test_what_cannot_be_made_leaves_nothing_behind(typed, words, password, says):
    typed(f"{password}\n")
    with pytest.raises(CommandError, match=says):
        run(*words)
    assert not Project.objects.exists() and not User.objects.exists()


def test_a_short_name_that_is_taken_is_refused_and_no_account_is_made(typed):
    make_user("ada")
    typed(f"{PASSWORD}\n")
    run("Talks", "--admin", "ada")
    with pytest.raises(CommandError, match="'talks' already"):
        run("Talks", "--admin", "bob")
    assert not User.objects.filter(username="bob").exists()
