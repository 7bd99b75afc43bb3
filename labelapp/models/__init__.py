"""Every table, in the order a judgment meets them."""

from labelapp.models.people import Membership, User
from labelapp.models.projects import GuidelineVersion, Project, ProtocolVersion
from labelapp.models.prompts import Completion, Prompt, message_hash, text_hash
from labelapp.models.comparisons import Comparison, ComparisonCompletion, Slot
from labelapp.models.judgments import Judgment
from labelapp.models.snapshots import Snapshot
from labelapp.models.versions import Deployment, DeploymentEvent, Version
from labelapp.models.rounds import MetricRow, Round, RoundEvent, Stage
from labelapp.models.audits import Audit, AuditMetric
from labelapp.models.serving import ApiKey, EngineVersion
from labelapp.models.processes import Process

__all__ = [
    "ApiKey",
    "Audit",
    "AuditMetric",
    "Comparison",
    "ComparisonCompletion",
    "Completion",
    "Deployment",
    "DeploymentEvent",
    "EngineVersion",
    "GuidelineVersion",
    "Judgment",
    "Membership",
    "MetricRow",
    "Process",
    "Project",
    "Prompt",
    "ProtocolVersion",
    "Round",
    "RoundEvent",
    "Slot",
    "Snapshot",
    "Stage",
    "User",
    "Version",
    "message_hash",
    "text_hash",
]
