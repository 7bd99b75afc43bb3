from django.core.management.base import BaseCommand, CommandError

from labelapp.management.asking import person_named, project_named
from labelapp.management.switching import add_switch_options, said, waited
from labelapp.models import Deployment
from labelapp.rounds import promote as switches


class Command(BaseCommand):
    help = "Point a project's alias back at the version of the epoch before. A second rollback undoes the first."

    def add_arguments(self, parser):
        parser.add_argument("project", help="the project's short name, as in its address")
        add_switch_options(parser)
        parser.add_argument("--cancel-pending", action="store_true", help="only give up a switch that waits to load")

    def handle(self, *, project: str, reason: str, by, epoch, wait: bool, json: bool, cancel_pending: bool, **_):
        deployment = switches.deployment_of(project_named(project))
        if cancel_pending:
            return self.cancel(deployment, as_json=json)
        seen = deployment.epoch if epoch is None else epoch
        try:
            done = switches.rollback(deployment=deployment, by=person_named(by), reason=reason, seen_epoch=seen)
        except switches.SwitchRefused as refusal:
            raise CommandError(str(refusal)) from refusal
        if wait and not done.event:
            done = waited(done, done.deployment.pending)
        self.stdout.write(said(done, as_json=json))

    def cancel(self, deployment: Deployment, *, as_json: bool) -> None:
        if not switches.cancel_pending(deployment=deployment):
            raise CommandError("No switch is waiting: it has happened, or was cancelled.")
        deployment.refresh_from_db()
        done = switches.Promotion(deployment, None)
        self.stdout.write(said(done, as_json=True) if as_json else "The switch was cancelled; nothing has changed.")
