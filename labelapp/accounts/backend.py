"""Who is signed in, read with one query together with all that they may do."""

from allauth.account.auth_backends import AuthenticationBackend

from labelapp.models import Membership, User


class MemberBackend(AuthenticationBackend):
    """allauth's sign-in by user name or e-mail; a request's user comes with their memberships and projects."""

    def get_user(self, user_id) -> User | None:
        """The active user, with `by_project`: memberships by the slug of their project."""
        rows = list(Membership.objects.filter(user_id=user_id).select_related("user", "project", "consent"))
        user = rows[0].user if rows else super().get_user(user_id)
        if user is None or not self.user_can_authenticate(user):
            return None
        user.by_project = {row.project.slug: row for row in rows}
        return user
