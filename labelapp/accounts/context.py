"""What every page knows about the person and the project at hand."""

from labelapp.accounts.permissions import MAY, may
from labelapp.models import Membership


def project(request) -> dict:
    """project, the role's name, if the project `chats`, and `can`: what the role may do; for the navigation only."""
    role = getattr(request, "role", None)
    return {
        "project": getattr(request, "project", None),
        "role": role and Membership.Role(role).label,
        "chats": getattr(getattr(request, "membership", None), "chats", False),
        "can": {action: bool(role) and may(role, action) for action in MAY},
    }
