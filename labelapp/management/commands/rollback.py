from django.core.management.base import BaseCommand, CommandError

from labelapp.management.asking import person_named, project_named
from labelapp.management.switching import add_switch_options, said, waited
from labelapp.rounds import promote as switches


class Command(BaseCommand):
    help = "Point a project's alias back at the version of the epoch before. A second rollback undoes the first."

    def add_arguments(self, parser):
        parser.add_argument("project", help="the project's short name, as in its address")
        add_switch_options(parser)

    def handle(self, *, project: str, reason: str, by, epoch, wait: bool, json: bool, **_):
        deployment = switches.deployment_of(project_named(project))
        seen = deployment.epoch if epoch is None else epoch
        try:
            done = switches.rollback(deployment=deployment, by=person_named(by), reason=reason, seen_epoch=seen)
        except switches.SwitchRefused as refusal:
            raise CommandError(str(refusal)) from refusal
        if wait and not done.event:
            done = waited(done, done.deployment.pending)
        self.stdout.write(said(done, as_json=json))
