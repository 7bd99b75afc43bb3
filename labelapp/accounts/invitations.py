"""Links that let people join a project. The token is shown once and kept as a SHA-256."""

import hashlib
import secrets
from collections.abc import Sequence
from datetime import timedelta
from typing import NamedTuple

from django.contrib.auth.password_validation import validate_password
from django.db import IntegrityError, transaction
from django.db.models import F
from django.db.models.functions import Now
from django.utils import timezone

from labelapp.accounts.people import PeopleRefused, checked_tags
from labelapp.models import Invitation, Membership, Project, User

Role = Membership.Role
RANK = {Role.LABELER: 0, Role.REVIEWER: 1, Role.RESEARCHER: 2, Role.ADMIN: 3}
SHORTEST, LONGEST = timedelta(hours=1), timedelta(days=30)
MOST_USES = 1000


class InvitationRefused(Exception):
    """The link opens nothing. `why` is unknown, revoked, expired or used."""

    def __init__(self, why: str, invitation: Invitation | None = None) -> None:
        super().__init__(why)
        self.why, self.invitation = why, invitation


class Joined(NamedTuple):
    """What came of a link: "joined", "raised" to a higher role, or "already" a member, which uses nothing up."""

    how: str
    membership: Membership


def invite(
    *, project: Project, by: User, role: str, expires_in: timedelta, uses: int, tags: Sequence[str] = ()
) -> tuple[Invitation, str]:
    """A new invitation and its token, which nobody can read again. Raises PeopleRefused."""
    if role not in Role.values:
        raise PeopleRefused(f"{role!r} is not a role; choose one of {', '.join(Role.values)}.")
    if not SHORTEST <= expires_in <= LONGEST:
        raise PeopleRefused("An invitation is good for 1 hour to 30 days; choose a time between.")
    if not 1 <= uses <= MOST_USES:
        raise PeopleRefused(f"{uses} uses are not possible; choose 1 to {MOST_USES:,}.")
    token = secrets.token_urlsafe(24)
    invitation = Invitation.objects.create(
        project=project, role=role, tags=checked_tags(tags), token_sha256=digest(token),
        expires_at=timezone.now() + expires_in, uses_left=uses, created_by=by,
    )  # fmt: skip
    return invitation, token


def revoke_invitation(*, invitation: Invitation) -> None:
    """From the next request on the link opens nothing. The first revocation's time stands."""
    Invitation.objects.filter(pk=invitation.pk, revoked_at=None).update(revoked_at=Now())


def digest(token: str) -> str:
    return hashlib.sha256(token.encode()).hexdigest()


def find_invitation(token: str) -> Invitation:
    """The invitation of a link that still opens something. Raises InvitationRefused."""
    found = Invitation.objects.select_related("project").filter(token_sha256=digest(token)).first()
    if found is None:
        raise InvitationRefused("unknown")
    if why := closed_because(found):
        raise InvitationRefused(why, found)
    return found


def closed_because(invitation: Invitation) -> str:
    """Why it opens nothing; empty while it does."""
    if invitation.revoked_at:
        return "revoked"
    if invitation.expires_at <= timezone.now():
        return "expired"
    return "" if invitation.uses_left else "used"


@transaction.atomic
def join(*, token: str, user: User) -> Joined:
    """Make the person a member as the link says, and use it up by one; the last use is given once.

    Somebody who is a member already keeps the higher role and gets the tags; nothing is used up unless the role grows.

    Raises:
        InvitationRefused: the link opens nothing, or somebody else had its last use.
    """
    invitation = find_invitation(token)
    _use(invitation)  # locks the row: a second click of the same person waits here and finds the membership below
    member, is_new = Membership.objects.get_or_create(
        project=invitation.project, user=user, defaults={"role": invitation.role, "tags": invitation.tags}
    )
    if is_new:
        return Joined("joined", member)
    higher = RANK[invitation.role] > RANK[member.role]
    if not higher:
        Invitation.objects.filter(pk=invitation.pk).update(uses_left=F("uses_left") + 1)
    member.role = invitation.role if higher else member.role
    member.tags = list(dict.fromkeys([*member.tags, *invitation.tags]))
    member.passed_until = None  # with other tags there may be something
    member.save(update_fields=["role", "tags", "passed_until"])
    return Joined("raised" if higher else "already", member)


def _use(invitation: Invitation) -> None:
    good = Invitation.objects.filter(pk=invitation.pk, revoked_at=None, expires_at__gt=Now(), uses_left__gt=0)
    if not good.update(uses_left=F("uses_left") - 1):
        invitation.refresh_from_db()
        raise InvitationRefused(closed_because(invitation) or "used", invitation)


def join_with_new_account(*, token: str, username: str, password: str, email: str = "") -> tuple[User, Joined]:
    """An ordinary account, and its membership: both or neither.

    Raises ValidationError for a password that is too weak, InvitationRefused, and PeopleRefused for a taken name.
    """
    user = User(username=username, email=email)
    validate_password(password, user)
    user.set_password(password)
    try:
        with transaction.atomic():
            user.save(force_insert=True)
            return user, join(token=token, user=user)
    except IntegrityError as error:
        raise PeopleRefused(f"The name {username!r} is taken; choose another, or sign in if it is yours.") from error
