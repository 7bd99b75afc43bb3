"""What every page knows about the person and the project at hand."""

from labelapp.accounts.permissions import MAY, may


def project(request) -> dict:
    """project, role, if the project `chats`, and `can`: what this person's role may do; for the navigation only."""
    role = getattr(request, "role", None)
    return {
        "project": getattr(request, "project", None),
        "role": role,
        "chats": getattr(getattr(request, "membership", None), "chats", False),
        "can": {action: bool(role) and may(role, action) for action in MAY},
    }
