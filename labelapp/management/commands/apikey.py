"""Make a key to a project's API from the shell."""

import json

from django.core.management.base import BaseCommand, CommandError

from labelapp.accounts.keys import KeyNameRefused, create_key
from labelapp.models import Project


class Command(BaseCommand):
    help = "Make an API key for a project and print it. It is shown this once."

    def add_arguments(self, parser) -> None:
        parser.add_argument("project", help="the project's short name, as in its address")
        parser.add_argument("--name", required=True, help="what the key is for")
        parser.add_argument("--json", action="store_true", help="print one JSON object")

    def handle(self, *, project: str, name: str, json: bool, **options) -> None:
        found = Project.objects.filter(slug=project).first()
        if found is None:
            raise CommandError(f"There is no project {project!r}.")
        try:
            key, token = create_key(project=found, name=name)
        except KeyNameRefused as error:
            raise CommandError(str(error)) from error
        self.stdout.write(as_json(key, token) if json else token)


def as_json(key, token: str) -> str:
    return json.dumps({"project": key.project.slug, "name": key.name, "id": key.key_id, "key": token})
