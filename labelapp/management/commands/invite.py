"""Invite people to a project from the shell."""

import json
import re
from datetime import timedelta

from django.core.management.base import BaseCommand, CommandError
from django.urls import reverse

from labelapp.accounts.invitations import invite
from labelapp.accounts.people import PeopleRefused
from labelapp.management.asking import person_named, project_named
from labelapp.models import Invitation, Membership, Process, Project, User

UNITS = {"h": timedelta(hours=1), "d": timedelta(days=1)}


class Command(BaseCommand):
    help = "Make a link that lets people join a project, and print it; it is shown this once."

    def add_arguments(self, parser) -> None:
        parser.add_argument("project", help="the project's short name, as in its address")
        parser.add_argument("--role", default="labeler", choices=Membership.Role.values)
        parser.add_argument("--tags", default="", help="languages and skills that whoever joins gets, between commas")
        parser.add_argument("--expires", default="7d", help="how long it is good: 1h to 30d (default 7d)")
        parser.add_argument("--uses", type=int, default=1, help="how many people may join (default 1)")
        parser.add_argument("--by", metavar="USERNAME", help="who invites; an admin of the project by default")
        parser.add_argument("--address", help="where people reach this installation (default: where `up` serves it)")
        parser.add_argument("--sure", action="store_true", help="needed for the role admin, who may do everything")
        parser.add_argument("--json", action="store_true", help="print one JSON object")

    def handle(self, *, project: str, role: str, json: bool, sure: bool, **given) -> None:
        if role == Membership.Role.ADMIN and not sure:
            raise CommandError("An admin may do everything in the project. Say --sure to invite one.")
        found = project_named(project)
        try:
            invitation, token = invite(
                project=found, by=inviter(found, given["by"]), role=role, expires_in=duration(given["expires"]),
                uses=given["uses"], tags=given["tags"].split(","),
            )  # fmt: skip
        except PeopleRefused as refusal:
            raise CommandError(str(refusal)) from refusal
        link = (given["address"] or served_at()).rstrip("/") + reverse("join", args=[token])
        self.stdout.write(as_json(invitation, link) if json else link)


def served_at() -> str:
    """The address that `up` gave the web process which was heard last; up's default where none is known."""
    known = Process.objects.filter(kind="web", detail__address__gt="").order_by("heartbeat_at").last()
    return known.detail["address"] if known else "http://127.0.0.1:8000"


def duration(text: str) -> timedelta:
    if not (parts := re.fullmatch(r"([1-9]\d{0,3})([hd])", text)):
        raise CommandError(f"--expires {text!r} is not a time; write 12h or 7d.")
    return int(parts[1]) * UNITS[parts[2]]


def inviter(project: Project, username: str | None) -> User:
    if user := person_named(username):
        return user
    admins = project.memberships.filter(role=Membership.Role.ADMIN, user__is_active=True).select_related("user")
    if (first := admins.order_by("pk").first()) is None:
        raise CommandError(f"{project.slug} has no admin; name who invites with --by.")
    return first.user


def as_json(invitation: Invitation, link: str) -> str:
    return json.dumps(
        {
            "project": invitation.project.slug,
            "role": invitation.role,
            "tags": invitation.tags,
            "uses": invitation.uses_left,
            "expires_at": invitation.expires_at.isoformat(),
            "link": link,
        }
    )
