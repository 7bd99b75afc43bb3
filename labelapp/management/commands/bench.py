"""Runs one of the measurements in benchmarks/; further words go to it."""

import importlib
import sys

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError

FOLDER = settings.BASE_DIR / "benchmarks"


class Command(BaseCommand):
    help = __doc__
    requires_system_checks = []

    def run_from_argv(self, argv):
        """Hand the words over unparsed: each benchmark has options of its own."""
        try:
            self.run_benchmark(argv[2:])
        except CommandError as error:
            self.stderr.write(str(error))
            sys.exit(error.returncode)

    def run_benchmark(self, words: list[str]) -> None:
        names = sorted(path.stem for path in FOLDER.glob("*.py") if not path.stem.startswith("_"))
        if not words or words[0] not in names:
            raise CommandError(f"Name one of the benchmarks: {', '.join(names) or 'there are none'}.")
        sys.exit(importlib.import_module(f"benchmarks.{words[0]}").main(words[1:]))
