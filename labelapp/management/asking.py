"""What commands ask the tables for by name, and how they wait; whatever is not there is a CommandError."""

import time
from collections.abc import Callable

from django.core.management.base import CommandError

from labelapp.models import Project, User, Version

LOOK_SECONDS = 0.5


def project_named(slug: str) -> Project:
    project = Project.objects.filter(slug=slug).first()
    if project is None:
        known = ", ".join(Project.objects.order_by("slug").values_list("slug", flat=True)[:20])
        raise CommandError(f"There is no project {slug!r}; there is {known or 'none yet'}.")
    return project


def version_named(project: Project, name: str) -> Version:
    version = project.versions.filter(name=name).first()
    if version is None:
        raise CommandError(f"{project.slug} has no version {name!r}; `versions {project.slug}` lists them.")
    return version


def person_named(username: str | None) -> User | None:
    """The person a command acts for; None where nobody was named."""
    if username is None:
        return None
    user = User.objects.filter(username=username, is_active=True).first()
    if user is None:
        raise CommandError(f"There is no active user {username!r}.")
    return user


def wait_until(is_over: Callable[[], bool]) -> None:
    """Look again twice a second; the person at the keyboard ends it with Ctrl-C."""
    while not is_over():
        time.sleep(LOOK_SECONDS)
