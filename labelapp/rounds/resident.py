"""Which versions the engine should hold, most wanted first. The engine loads as many as it has room for."""

from labelapp.models import Deployment, Project, Version
from labelapp.rounds.promote import rollback_target


def wanted_versions(project: Project | None = None) -> list[Version]:
    """What the aliases of one project, or of all, need: first every version that answers, then every one that waits,
    then what a person would most likely switch to next. Without repeats."""
    deployments = Deployment.objects.filter(**({"project": project} if project else {})).order_by("pk")
    wanted = [wanted_by(deployment) for deployment in deployments.select_related("version", "pending")]
    depth = max(map(len, wanted), default=0)
    by_rank = [versions[rank] for rank in range(depth) for versions in wanted if rank < len(versions)]
    return list(dict.fromkeys(filter(None, by_rank)))


def wanted_by(deployment: Deployment) -> list[Version | None]:
    """Current, pending, then the newest candidate and the rollback target.

    The candidate comes before the rollback target only if it is newer than the last switch: one that was there at the
    switch has been passed over.
    """
    last = deployment.events.first()
    candidate = newest_candidate(deployment.project_id)
    fresh = candidate and (last is None or candidate.created_at > last.created_at)
    previous = rollback_target(deployment)
    next_ones = [candidate, previous] if fresh else [previous, candidate]
    return [deployment.version, deployment.pending, *next_ones]


def newest_candidate(project_id: int) -> Version | None:
    policies = Version.objects.filter(project_id=project_id, kind=Version.Kind.POLICY)
    return policies.filter(state=Version.State.CANDIDATE).order_by("-created_at", "-pk").first()
