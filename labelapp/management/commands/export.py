import json
from pathlib import Path

from django.core.management.base import BaseCommand, CommandError

from alignment.manifest import ArtifactError
from labelapp.datasets.actions import DestinationTaken, export_snapshot
from labelapp.models import Snapshot


class Command(BaseCommand):
    help = "Copy a snapshot's files, the very ones the trainer reads, and check every byte."

    def add_arguments(self, parser):
        parser.add_argument("project", help="the project's short name, as in its address")
        parser.add_argument("digest", help="the snapshot's digest, or its first characters (at least 8)")
        parser.add_argument("destination", type=Path, help="a directory that is empty or not there yet")
        parser.add_argument("--json", action="store_true", help="print the digest and the files as JSON")

    def handle(self, *, project, digest, destination, json: bool, **_):
        snapshot = _find(project, digest)
        try:
            folder = export_snapshot(snapshot=snapshot, destination=destination)
        except (DestinationTaken, ArtifactError, OSError) as error:
            raise CommandError(str(error)) from error
        text = _as_json(snapshot, folder) if json else f"{snapshot.digest} is in {folder}, every byte checked"
        self.stdout.write(text)


def _find(project: str, digest: str) -> Snapshot:
    found = Snapshot.objects.filter(project__slug=project, digest__startswith=digest)[:2] if len(digest) >= 8 else []
    if len(found) != 1:
        raise CommandError(f"project {project!r} has no single snapshot {digest!r}")
    return found[0]


def _as_json(snapshot: Snapshot, folder: Path) -> str:
    files = [str(folder / name) for name in sorted(snapshot.manifest["files"])]
    return json.dumps({"digest": snapshot.digest, "files": files})
