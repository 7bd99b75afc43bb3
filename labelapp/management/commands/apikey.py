"""Make a key to a project's API from the shell, or revoke one."""

import json

from django.core.management.base import BaseCommand, CommandError

from labelapp.accounts.keys import KeyNameRefused, create_key, revoke_key
from labelapp.models import ApiKey, Project


class Command(BaseCommand):
    help = "Make an API key for a project and print it; it is shown this once. Or revoke one."

    def add_arguments(self, parser) -> None:
        parser.add_argument("project", help="the project's short name, as in its address")
        what = parser.add_mutually_exclusive_group(required=True)
        what.add_argument("--name", help="what the new key is for")
        what.add_argument("--revoke", metavar="ID", help="the 8 characters between lab_ and _ of the key to revoke")
        parser.add_argument("--json", action="store_true", help="print one JSON object")

    def handle(self, *, project: str, name: str | None, revoke: str | None, json: bool, **options) -> None:
        found = Project.objects.filter(slug=project).first()
        if found is None:
            raise CommandError(f"There is no project {project!r}.")
        if revoke:
            key = revoked(found, revoke)
            return self.stdout.write(as_json(key) if json else f"{key.name} opens nothing any more.")
        try:
            key, token = create_key(project=found, name=name)
        except KeyNameRefused as error:
            raise CommandError(str(error)) from error
        self.stdout.write(as_json(key, token) if json else token)


def revoked(project: Project, key_id: str) -> ApiKey:
    key = project.api_keys.filter(key_id=key_id).first()
    if key is None:
        raise CommandError(f"{project.slug} has no key {key_id!r}.")
    revoke_key(key=key)
    return key


def as_json(key: ApiKey, token: str | None = None) -> str:
    """One line; the token only of a new key."""
    facts = {"project": key.project.slug, "name": key.name, "id": key.key_id}
    return json.dumps(facts | ({"key": token} if token else {"revoked": True}))
