"""Stops the embedded database and broker that a command left running."""

from django.core.management.base import BaseCommand, CommandError

from labelapp import embedded


class Command(BaseCommand):
    help = __doc__
    requires_system_checks = []

    def handle(self, **_):
        if not embedded.Services().stop_unless_used():
            raise CommandError("Labelapp is in use here: first end `manage.py up` (Ctrl-C in its terminal).")
        self.stdout.write("The embedded servers are stopped.")
