"""What every page knows about the person and the project at hand."""

from labelapp.accounts.permissions import MAY, may


def project(request) -> dict:
    """project, role and `can`: the actions this person's role may take, for the navigation only."""
    role = getattr(request, "role", None)
    return {
        "project": getattr(request, "project", None),
        "role": role,
        "can": {action: bool(role) and may(role, action) for action in MAY},
    }
