"""Removes artifacts that nothing cites."""

import json

from django.core.management.base import BaseCommand, CommandError
from django.template.defaultfilters import filesizeformat

from labelapp.rounds.unused import find_unused, find_unused_in_bucket, remove
from labelapp.storage import StoreAway


class Command(BaseCommand):
    help = "Remove files of killed attempts, crashed freezes and finished rounds that no row of the database names."

    def add_arguments(self, parser):
        parser.add_argument("--dry-run", action="store_true", help="say what would go, and remove nothing")
        parser.add_argument("--hours", type=float, default=24, help="leave what changed since; default 24")
        parser.add_argument("--json", action="store_true", help="print one JSON object")

    def handle(self, *, dry_run: bool, hours: float, **options):
        if hours < 0:
            raise CommandError(f"--hours is {hours}: give 0 or more.")
        try:
            found = find_unused(3600 * hours) + find_unused_in_bucket(3600 * hours)
            for unused in () if dry_run else found:
                remove(unused)
        except StoreAway as error:
            raise CommandError(str(error)) from error
        total = sum(unused.bytes for unused in found)
        if options["json"]:
            rows = [{"path": str(unused.path), "bytes": unused.bytes, "why": unused.why} for unused in found]
            self.stdout.write(json.dumps({"removed": not dry_run, "bytes": total, "found": rows}))
            return
        for unused in found:
            self.stdout.write(f"{filesizeformat(unused.bytes):>10}  {unused.path}: {unused.why}")
        done = "would be freed" if dry_run else "freed"
        self.stdout.write(f"{filesizeformat(total)} {done} in {len(found)} place{'s' * (len(found) != 1)}.")
