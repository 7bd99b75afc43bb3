import json
import sys
from pathlib import Path

from django.core.management.base import BaseCommand, CommandError

from labelapp.datasets.actions import ImportRefused, NoProtocol, import_preferences
from labelapp.datasets.reading import BadFile
from labelapp.datasets.report import Report
from labelapp.models import Project


class Command(BaseCommand):
    help = "Import preferences: JSON lines in TRL's format, HH-RLHF's, or our judgments.jsonl. All or nothing."

    def add_arguments(self, parser):
        parser.add_argument("project", help="the project's short name, as in its address")
        parser.add_argument("file", help="the file, or - for standard input")
        parser.add_argument("--source", help="where the data come from; names the annotator (default: the file's name)")
        parser.add_argument("--skip-bad", action="store_true", help="store the good rows even if some are bad")
        parser.add_argument("--json", action="store_true", help="report as JSON")

    def handle(self, *, project, file, source, skip_bad, json: bool, **_):
        try:
            report = self._import(project, file, source or Path(file).name, skip_bad)
        except ImportRefused as refusal:
            if json:
                self._print(refusal.report, json)
            raise CommandError(f"{refusal}. {_reasons(refusal.report)}") from refusal
        except (NoProtocol, BadFile, OSError) as error:
            raise CommandError(str(error)) from error
        self._print(report, json)

    def _import(self, slug: str, file: str, source: str, skip_bad: bool) -> Report:
        project = Project.objects.filter(slug=slug).first()
        if project is None:
            raise CommandError(f"there is no project {slug!r}")
        with sys.stdin.buffer if file == "-" else open(file, "rb") as stream:
            return import_preferences(project=project, stream=stream, source=source, skip_bad=skip_bad)

    def _print(self, report: Report, as_json: bool) -> None:
        if as_json:
            self.stdout.write(json.dumps(report.as_dict(), ensure_ascii=False))
            return
        self.stdout.write(
            f"{report.rows} rows: {report.judgments} new judgments, {report.comparisons} new comparisons"
            f" ({report.open_comparisons} open), {report.fresh_prompts} fresh prompts,"
            f" {report.known} already known, {report.bad_rows} bad"
        )
        if report.bad_rows:
            self.stderr.write(_reasons(report))


def _reasons(report: Report) -> str:
    lines = [f"row {number}: {reason}" for number, reason in report.reasons]
    if report.bad_rows > len(lines):
        lines.append(f"and {report.bad_rows - len(lines)} more")
    return "\n".join(lines)
