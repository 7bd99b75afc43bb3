import json

from django.core.management.base import BaseCommand, CommandError

from labelapp.management.asking import project_named
from labelapp.models import Project, Version
from labelapp.rounds.adopt import NotAdoptable, adopt_model


class Command(BaseCommand):
    help = "Bring a model from elsewhere: it becomes a candidate version, and so a parent for rounds."

    def add_arguments(self, parser) -> None:
        words = parser.add_subparsers(dest="action", required=True)
        add = words.add_parser("add", help="fetch or copy a model and register it")
        add.add_argument("source", help="a hub's org/name@revision, or the path of a directory with safetensors")
        add.add_argument("--project", default="", help="its short name; not needed where there is one project")
        add.add_argument("--kind", default="policy", choices=["policy", "reward"])
        add.add_argument("--template", default="", metavar="FILE", help="a chat template, for a model without one")
        add.add_argument("--json", action="store_true", help="print one JSON object")

    def handle(self, *, source: str, project: str, kind: str, template: str, **options) -> None:
        found = project_named(project) if project else only_project()
        try:
            version = adopt_model(project=found, source=source, kind=kind, template=template)
        except NotAdoptable as refusal:
            raise CommandError(str(refusal)) from refusal
        self.stdout.write(as_json(version) if options["json"] else told(version))


def only_project() -> Project:
    found = list(Project.objects.order_by("slug")[:2])
    if len(found) != 1:
        raise CommandError("Name the project with --project." if found else "There is no project yet; make one first.")
    return found[0]


def told(version: Version) -> str:
    line = f"{version.name} is a {version.kind} of {version.project.slug}, digest {version.digest[:12]}."
    launch = f"Start from it: python3 manage.py launch {version.project.slug} --parent {version.name}"
    return f"{line}\n{launch}" if version.kind == Version.Kind.POLICY else line


def as_json(version: Version) -> str:
    facts = {"project": version.project.slug, "version": version.name, "kind": version.kind}
    return json.dumps(facts | {"digest": version.digest, "path": version.path, "source": version.card.get("source")})
