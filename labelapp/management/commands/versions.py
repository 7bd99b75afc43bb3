import json

from django.core.management.base import BaseCommand

from labelapp.management.asking import project_named
from labelapp.models import Project
from labelapp.rounds.promote import deployment_of, is_loaded
from labelapp.rounds.version_figures import VersionRow, version_rows


class Command(BaseCommand):
    help = "List a project's versions with their gate and headline figures, and which one answers."

    def add_arguments(self, parser):
        parser.add_argument("project", help="the project's short name, as in its address")
        parser.add_argument("--json", action="store_true", help="print one JSON object")

    def handle(self, *, project: str, json: bool, **_):
        found = project_named(project)
        rows = version_rows(found)
        self.stdout.write(as_json(found, rows) if json else as_text(found, rows))


def as_json(project: Project, rows: list[VersionRow]) -> str:
    now = deployment_of(project)
    alias = {"alias": now.alias, "epoch": now.epoch, "version": now.version and now.version.name,
             "pending": now.pending and now.pending.name}  # fmt: skip
    return json.dumps({"project": project.slug, "deployment": alias, "versions": [facts(row) for row in rows]})


def facts(row: VersionRow) -> dict:
    version, audit = row.version, row.audit
    metrics = audit.metrics.all() if audit else []
    return {
        "name": version.name,
        "kind": version.kind,
        "state": version.state,
        "digest": version.digest,
        "parent": version.parent and version.parent.name,
        "round": version.round and version.round.number,
        "snapshot": version.snapshot and version.snapshot.digest,
        "loaded": is_loaded(version),
        "verdict": row.verdict or "no-evidence",
        "reasons": row.reasons,
        "metrics": {
            m.key: {"value": m.value, "low": m.low, "high": m.high, "n": m.n, "clusters": m.clusters,
                    "baselines": m.baselines, "verdict": m.verdict}
            for m in metrics
        },
    }  # fmt: skip


def as_text(project: Project, rows: list[VersionRow]) -> str:
    now = deployment_of(project)
    answers = f"answers from {now.version.name}" if now.version else "answers from nothing yet"
    lines = [f"{now.alias} {answers} (epoch {now.epoch})"]
    lines += [f"{now.pending.name} is being loaded"] if now.pending else []
    return "\n".join([*lines, "", *(line_of(row) for row in rows)])


def line_of(row: VersionRow) -> str:
    version, verdict = row.version, row.verdict or "not measured"
    measured = "; ".join(f"{figure.name.lower()} {figure.text} {figure.interval}".strip() for figure in row.figures)
    return f"{version.name:<30} {version.kind:<7} {version.state:<10} {verdict:<13} {measured}".rstrip()
