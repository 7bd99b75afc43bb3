from django.core.management.base import BaseCommand, CommandError

from labelapp.demo.load import LOGINS, DemoRefused, load_demo


class Command(BaseCommand):
    help = "Load the demo project with its people; again, it adds only what is missing. Refused in production."

    def handle(self, **_):
        try:
            project = load_demo()
        except DemoRefused as refusal:
            raise CommandError(str(refusal)) from refusal
        self.stdout.write(f"The demo is at /p/{project.slug}/. Sign in as one of:")
        for role, username, password in LOGINS:
            self.stdout.write(f"  {role:10}  {username:10}  {password}")
