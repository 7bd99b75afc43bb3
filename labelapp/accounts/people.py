"""What an admin does about the members of a project."""

from collections.abc import Sequence
from contextlib import contextmanager

from django.db import transaction
from django.db.models import Exists, OuterRef

from labelapp.models import Judgment, Membership, Project, Slot

Role = Membership.Role
TAG_LENGTH, MOST_TAGS = 40, 30


class PeopleRefused(Exception):
    """An expected no, said to a person; names the thing, the value and the remedy."""


@contextmanager
def members_locked(project: Project):
    """One change of the members at a time: whoever counts the admins counts right."""
    with transaction.atomic():
        project.lock()
        yield


def change_role(*, member: Membership, role: str) -> None:
    """Give a member another role. Raises PeopleRefused for an unknown role, and where no admin would be left."""
    if role not in Role.values:
        raise PeopleRefused(f"{role!r} is not a role; choose one of {', '.join(Role.values)}.")
    with members_locked(member.project):
        if role != Role.ADMIN:
            _keep_an_admin(member)
        Membership.objects.filter(pk=member.pk).update(role=role)
        if role == Role.RESEARCHER:
            free_leases(project=member.project, user=member.user)


def set_tags(*, member: Membership, tags: Sequence[str]) -> None:
    """Replace the tags of a member. Raises PeopleRefused."""
    Membership.objects.filter(pk=member.pk).update(tags=checked_tags(tags), passed_until=None)


def set_cap(*, member: Membership, cap: int | None) -> None:
    """How many judgments the member may make in a day; None: as the project says."""
    Membership.objects.filter(pk=member.pk).update(daily_cap=cap)


def remove_member(*, member: Membership) -> None:
    """End a membership. The person's judgments stay. Raises PeopleRefused where no admin would be left."""
    with members_locked(member.project):
        _keep_an_admin(member)
        free_leases(project=member.project, user=member.user)
        free_reserved(project=member.project, user=member.user)
        Membership.objects.filter(pk=member.pk).delete()


def free_leases(*, project: Project, user) -> int:
    """Give back at once what the person holds: the next one who asks may have it."""
    held = Slot.objects.filter(project=project, labeler=user, state=Slot.State.LEASED)
    return held.leave(Slot.State.OPEN)


def free_reserved(*, project: Project, user) -> None:
    """What waited for this person alone: where their answer stands it goes on standing, the rest is closed."""
    waiting = Slot.objects.filter(project=project, reserved_for=user, state=Slot.State.OPEN)
    standing = Judgment.objects.standing().filter(slot=OuterRef("pk"), labeler=user)
    waiting.filter(Exists(standing)).update(state=Slot.State.DONE, labeler=user)
    waiting.update(state=Slot.State.CLOSED)


def checked_tags(tags: Sequence[str]) -> list[str]:
    """Tags in lower case, each once, in the order given. Raises PeopleRefused."""
    found = list(dict.fromkeys(filter(None, (tag.strip().lower() for tag in tags))))
    for tag in found:
        if len(tag) > TAG_LENGTH or not tag.isprintable():
            raise PeopleRefused(f"The tag {tag[:60]!r} must be printable and at most {TAG_LENGTH} characters.")
    if len(found) > MOST_TAGS:
        raise PeopleRefused(f"{len(found)} tags are too many; keep at most {MOST_TAGS}.")
    return found


def _keep_an_admin(member: Membership) -> None:
    admins = Membership.objects.filter(project=member.project_id, role=Role.ADMIN, user__is_active=True)
    if member.role == Role.ADMIN and not admins.exclude(pk=member.pk).exists():
        raise PeopleRefused(f"{member.user} is the only admin of this project. Make somebody else admin first.")
