"""Shows every process with its version and last heartbeat, and how much work waits."""

import json

from django.core.management.base import BaseCommand, CommandError
from django.db import DatabaseError

from labelapp import embedded
from labelapp.overview import overview


class Command(BaseCommand):
    help = __doc__
    requires_system_checks = []

    def add_arguments(self, parser):
        parser.add_argument("--json", action="store_true", help="print one JSON object")

    def handle(self, *, json: bool, **_):
        try:
            refuse_stopped()
            found = overview()
        except DatabaseError as error:
            raise CommandError(f"The database does not answer: {str(error).strip().splitlines()[0]}") from None
        self.stdout.write(as_json(found) if json else as_text(found))


def refuse_stopped() -> None:
    """Looking at the state starts no server."""
    if embedded.wanted()["database"] and not embedded.Services().postgres.accepts():
        raise CommandError("Nothing runs here: start it with `python3 manage.py up`.")


def as_json(found: dict) -> str:
    return json.dumps(found, indent=2)


def as_text(found: dict) -> str:
    lines = [f"Labelapp {found['version']}", ""]
    lines.append(f"{'process':<10} {'name':<28} {'pid':>7}  {'version':<10} last heartbeat")
    for process in found["processes"]:
        age = f"{process['heartbeat_age_seconds']:.0f} s ago"
        lines.append(
            f"{process['kind']:<10} {process['name']:<28} {process['pid']:>7}  {process['version']:<10} {age}"
        )
    lines += ["", f"slots    {_counts(found['slots'])}", f"rounds   {_counts(found['rounds'])}"]
    return "\n".join([*lines, f"messages {'broker away' if found['queues'] is None else _counts(found['queues'])}"])


def _counts(counts: dict) -> str:
    return ", ".join(f"{number} {name}" for name, number in counts.items()) or "none"
