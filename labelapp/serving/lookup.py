"""Which version answers to a model id. The alias is read once a request, so a switch never tears a request apart."""

import re
from typing import Any

from django.db.models import Q, Subquery

from labelapp.models import Deployment, EngineVersion, Project, Version
from labelapp.serving.errors import model_not_found, model_not_ready

MODEL_ID = re.compile(r"[A-Za-z0-9_-]{1,80}", re.ASCII)
READY = EngineVersion.State.READY


def answering(project: Project, model: str):
    """Versions of the project that the id may mean: the one behind the alias, or a loaded one of that name."""
    behind_alias = Deployment.objects.filter(project=project, alias=model).values("version")
    loaded_by_name = Q(name=model, engine__state=READY)
    policies = Version.objects.filter(project=project, kind=Version.Kind.POLICY)
    return policies.filter(Q(pk=Subquery(behind_alias[:1])) | loaded_by_name)


async def resolve(project: Project, model: str) -> Version:
    """The version that answers now; an alias wins over an equal version name. One query.

    Raises ApiError 404 for ids unknown to this project, and 503 where nothing has been promoted yet.
    """
    if not MODEL_ID.fullmatch(model):
        raise model_not_found(model)
    found = [version async for version in answering(project, model)]
    if found:
        return min(found, key=lambda version: version.name == model)
    if await Deployment.objects.filter(project=project, alias=model).aexists():
        raise model_not_ready("no version has been promoted to this alias yet")
    raise model_not_found(model)


async def list_models(project: Project) -> list[dict[str, Any]]:
    """Aliases with something behind them, then the versions the engine holds, in the form of the OpenAI API."""
    aliases = Deployment.objects.filter(project=project, version__isnull=False).select_related("version", "pending")
    loaded = Version.objects.filter(project=project, kind=Version.Kind.POLICY, engine__state=READY)
    return [describe_alias(row) async for row in aliases.order_by("alias")] + [
        describe(row.name, row) async for row in loaded.order_by("-created_at")
    ]


async def one_model(project: Project, model: str) -> dict[str, Any]:
    """Raises ApiError 404."""
    for described in await list_models(project):
        if described["id"] == model:
            return described
    raise model_not_found(model)


def describe(model: str, version: Version) -> dict[str, Any]:
    created = int(version.created_at.timestamp())
    return {"id": model, "object": "model", "created": created, "owned_by": "labelapp", "version": version.name}


def describe_alias(row: Deployment) -> dict[str, Any]:
    """Target and actual: `pending` is promoted and still loading."""
    pending = row.pending.name if row.pending else None
    return describe(row.alias, row.version) | {"epoch": row.epoch, "pending": pending}
