import json

from django.core.management.base import BaseCommand, CommandError

from alignment.manifest import ArtifactError
from labelapp.datasets.actions import NothingToFreeze, freeze_snapshot
from labelapp.models import Project


class Command(BaseCommand):
    help = "Freeze a project's standing judgments into a snapshot and print its digest."

    def add_arguments(self, parser):
        parser.add_argument("project", help="the project's short name, as in its address")
        parser.add_argument("--json", action="store_true", help="print digest, path and counts as JSON")

    def handle(self, *, project, json: bool, **_):
        row = Project.objects.filter(slug=project).first()
        if row is None:
            raise CommandError(f"there is no project {project!r}")
        try:
            snapshot = freeze_snapshot(project=row, by=None)
        except (NothingToFreeze, ArtifactError, OSError) as refusal:
            raise CommandError(str(refusal)) from refusal
        self.stdout.write(_as_json(snapshot) if json else snapshot.digest)


def _as_json(snapshot) -> str:
    return json.dumps(
        {
            "project": snapshot.project.slug,
            "digest": snapshot.digest,
            "path": snapshot.path,
            **snapshot.manifest["counts"],
        }
    )
