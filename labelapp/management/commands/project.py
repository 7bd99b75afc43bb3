"""Make a project from the shell, with its first admin: where a self-hosted installation begins."""

import getpass
import json
import sys

from django.contrib.auth.password_validation import validate_password
from django.core.exceptions import ValidationError
from django.core.management.base import BaseCommand, CommandError
from django.db import connection, transaction
from django.db.migrations.executor import MigrationExecutor

from labelapp.labeling.refusals import BadSetup
from labelapp.labeling.setup.actions import create_project
from labelapp.labeling.setup.presets import PRESETS
from labelapp.models import Project, User

PRESET_HELP = "what is asked at first: " + ", ".join(PRESETS)


class Command(BaseCommand):
    help = (
        "Make a project and its admin. An account that is not there yet is made: its password is asked for, or read "
        "from the standard input where that is not a terminal."
    )

    def add_arguments(self, parser) -> None:
        parser.add_argument("name", help="the project's name")
        parser.add_argument("--slug", default="", help="its short name, part of every address; made from the name")
        parser.add_argument("--description", default="")
        parser.add_argument("--preset", default="default", choices=list(PRESETS), metavar="PRESET", help=PRESET_HELP)
        parser.add_argument("--admin", required=True, metavar="USERNAME", help="who becomes its admin")
        parser.add_argument("--json", action="store_true", help="print one JSON object")

    def handle(self, *, name, slug, description, preset, admin, json, **options) -> None:
        demand_tables()
        with transaction.atomic():
            person, new_account, project = make(name, slug, description, preset, admin)
        self.stdout.write(as_json(project, preset, person, new_account) if json else told(project, person, new_account))


def demand_tables() -> None:
    """Raise CommandError where the database is new or older than this version."""
    executor = MigrationExecutor(connection)
    if executor.migration_plan(executor.loader.graph.leaf_nodes()):
        raise CommandError("The database does not have this version's tables yet; run `manage.py migrate` first.")


def make(name: str, slug: str, description: str, preset: str, admin: str) -> tuple[User, bool, Project]:
    """The admin, whether their account is new, and the project. Raises CommandError."""
    person = User.objects.filter(username=admin).first()
    new_account = person is None
    try:
        person = person or create_admin(admin)
        protocol = PRESETS[preset].protocol
        project = create_project(name=name, slug=slug, description=description, protocol=protocol, by=person)
    except BadSetup as refusal:
        raise CommandError(str(refusal)) from refusal
    return person, new_account, project


def create_admin(username: str) -> User:
    """A new account with a password that the site's rules accept. Raises CommandError with every rule it breaks."""
    person = User(username=username)
    password = given_password(username)
    try:
        person.full_clean(exclude=["password"])
        validate_password(password, person)
    except ValidationError as refusal:
        raise CommandError(" ".join(refusal.messages)) from refusal
    return User.objects.create_user(username, password=password)


def given_password(username: str) -> str:
    if not sys.stdin.isatty():
        return sys.stdin.readline().rstrip("\n")
    password = getpass.getpass(f"Password for {username}: ")
    if getpass.getpass("Once more: ") != password:
        raise CommandError("The two passwords differ; nothing was made.")
    return password


def told(project: Project, person: User, new_account: bool) -> str:
    account = f"the new account {person}" if new_account else f"{person}"
    return f"{project.name} is ready at /p/{project.slug}/setup/ with {account} as its admin."


def as_json(project: Project, preset: str, person: User, new_account: bool) -> str:
    facts = {"project": project.slug, "name": project.name, "preset": preset}
    return json.dumps(facts | {"admin": person.username, "new_account": new_account})
