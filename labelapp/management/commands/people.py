"""Who is in a project."""

import json

from django.core.management.base import BaseCommand
from django.utils import timezone

from labelapp.labeling.overview.figures import status_of, work_by_person
from labelapp.management.asking import project_named
from labelapp.models import Membership, Project


class Command(BaseCommand):
    help = "List a project's members with their role, tags, cap, status and what they judged."

    def add_arguments(self, parser) -> None:
        parser.add_argument("project", help="the project's short name, as in its address")
        parser.add_argument("--json", action="store_true", help="print one JSON list")

    def handle(self, *, project: str, json: bool, **_) -> None:
        rows = people_of(project_named(project))
        self.stdout.write(as_json(rows) if json else "\n".join(map(line, rows)))


def people_of(project: Project) -> list[dict]:
    now = timezone.now()
    work = work_by_person(project, now.date())
    members = project.memberships.select_related("user").order_by("user__username")
    return [facts(member, work.get(member.user_id, {}), now) for member in members]


def facts(member: Membership, work: dict, now) -> dict:
    today = work.get("today", 0)
    status = status_of(member, today, None, now)
    return {
        "username": member.user.get_username(),
        "role": member.role,
        "tags": member.tags,
        "daily_cap": member.daily_cap,
        "status": status if status in ("paused", "quiz", "capped") else "active",
        "paused_because": member.paused_because,
        "judged_today": today,
        "judged_7_days": work.get("week", 0),
    }


def line(row: dict) -> str:
    tags = ", ".join(row["tags"]) or "–"
    work = f"{row['judged_today']} today, {row['judged_7_days']} in 7 days"
    return f"{row['username']:20} {row['role']:10} {row['status']:8} {work:28} {tags}"


def as_json(rows: list[dict]) -> str:
    return json.dumps(rows)
