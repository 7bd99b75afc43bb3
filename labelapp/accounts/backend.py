"""Who is signed in, read with one query together with all that they may do."""

from collections.abc import Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

from allauth.account.auth_backends import AuthenticationBackend

from labelapp.models import Consent, Membership, Project, User
from labelapp.models.prepared import as_instance, columns, read_rows

ABOUT = f"""
{columns(User, "person", "person_")}, {columns(Membership, "member", "member_")},
  {columns(Project, "project", "project_")}, {columns(Consent, "consent", "consent_")},
  (SELECT latest.definition @> '{{"chat": true}}' FROM labelapp_protocolversion latest
   WHERE latest.project_id = project.id ORDER BY latest.number DESC LIMIT 1) AS chats
"""
PEOPLE = """
labelapp_user person LEFT JOIN labelapp_membership member ON member.user_id = person.id
  LEFT JOIN labelapp_project project ON project.id = member.project_id
  LEFT JOIN labelapp_consent consent ON consent.id = member.consent_id
"""
MEMBER = f"SELECT {ABOUT} FROM {PEOPLE} WHERE person.id = %(person)s"
_at_hand: ContextVar[Sequence[dict[str, Any]]] = ContextVar("rows of a person read just now", default=())


@contextmanager
def at_hand(rows: Sequence[dict[str, Any]]):
    """Within it get_user() takes the person from these rows of MEMBER, if they are about the one who is asked for."""
    before = _at_hand.set(rows)
    try:
        yield
    finally:
        _at_hand.reset(before)


class MemberBackend(AuthenticationBackend):
    """allauth's sign-in by user name or e-mail; a request's user comes with their memberships and projects."""

    def get_user(self, user_id) -> User | None:
        """The active user, with `by_project`: memberships by the slug of their project.

        A membership knows whether its project's latest protocol `chats`, for the navigation.
        """
        rows = _at_hand.get()
        if not rows or rows[0]["person_id"] != user_id:
            rows = read_rows(MEMBER, {"person": user_id})
        user = as_instance(User, rows[0], "person_") if rows else None
        if user is None or not self.user_can_authenticate(user):
            return None
        memberships = [membership_in(row, user) for row in rows if row["member_id"]]
        user.by_project = {membership.project.slug: membership for membership in memberships}
        return user


def membership_in(row: dict, user: User) -> Membership:
    membership = as_instance(Membership, row, "member_")
    membership.user, membership.project = user, as_instance(Project, row, "project_")
    membership.consent = as_instance(Consent, row, "consent_") if row["consent_id"] else None
    membership.chats = bool(row["chats"])
    return membership
