"""Who may do what in a project. Every page asks here first; templates never decide."""

from collections.abc import Callable
from functools import wraps

from django.contrib.auth.decorators import login_required
from django.core.exceptions import PermissionDenied
from django.http import Http404, HttpRequest, HttpResponse

from labelapp.models import Membership

Role = Membership.Role

MAY = {
    "view": {Role.LABELER, Role.REVIEWER, Role.RESEARCHER, Role.ADMIN},
    "label": {Role.LABELER, Role.REVIEWER, Role.ADMIN},
    "review": {Role.REVIEWER, Role.ADMIN},  # accept, correct and return other people's judgments
    "research": {Role.RESEARCHER, Role.ADMIN},  # see results, versions and lineage; freeze and export
    "manage": {Role.ADMIN},  # import, launch, cancel, promote, roll back, keys
}


def may(role: str, action: str) -> bool:
    return role in MAY[action]


def require_project(user, slug: str, action: str) -> Membership:
    """The person's membership in the project.

    Raises Http404 for strangers, so that the existence of a project does not leak, and PermissionDenied where the
    person is a member whose role does not reach.
    """
    membership = membership_of(user, slug)
    if membership is None:
        raise Http404("no such project")
    if not may(membership.role, action):
        raise PermissionDenied(f"a {membership.role} may not {action} here")
    return membership


def membership_of(user, slug: str) -> Membership | None:
    """Without a query where the person was read by accounts.backend, with all their memberships."""
    if hasattr(user, "by_project"):
        return user.by_project.get(slug)
    return Membership.objects.of(user).filter(project__slug=slug).select_related("project").first()


def may_found(user) -> bool:
    """Whether the person may make new projects: an admin of some project, or a superuser."""
    return user.is_superuser or Membership.objects.of(user).filter(role=Role.ADMIN).exists()


def project_page(action: str) -> Callable:
    """View decorator: signed in, a member, in a role that may. The view gets the Project instead of its slug."""

    def decorate(view: Callable[..., HttpResponse]) -> Callable[..., HttpResponse]:
        @wraps(view)
        @login_required
        def page(request: HttpRequest, slug: str, *args, **kwargs) -> HttpResponse:
            request.membership = require_project(request.user, slug, action)
            request.project, request.role = request.membership.project, request.membership.role
            return view(request, request.project, *args, **kwargs)

        return page

    return decorate
