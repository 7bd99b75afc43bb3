from django.core.management.base import BaseCommand, CommandError

from labelapp.management.asking import person_named, project_named, version_named
from labelapp.management.switching import add_switch_options, said, waited
from labelapp.rounds import promote as switches


class Command(BaseCommand):
    help = "Point a project's alias at a version. What the gate did not pass needs --by and --reason."

    def add_arguments(self, parser):
        parser.add_argument("project", help="the project's short name, as in its address")
        parser.add_argument("version", help="the version's name, as `versions` lists it")
        add_switch_options(parser)

    def handle(self, *, project: str, version: str, reason: str, by, epoch, wait: bool, json: bool, **_):
        row = project_named(project)
        target, deployment = version_named(row, version), switches.deployment_of(row)
        seen = deployment.epoch if epoch is None else epoch
        try:
            done = switches.promote(
                deployment=deployment, version=target, by=person_named(by), reason=reason, seen_epoch=seen
            )
        except switches.SwitchRefused as refusal:
            raise CommandError(str(refusal)) from refusal
        self.stdout.write(said(waited(done, target) if wait else done, as_json=json))
