"""Every table, in the order a judgment meets them."""

from labelapp.models.people import Consent, Invitation, Membership, User, WorkDay
from labelapp.models.projects import ConsentVersion, GuidelineVersion, Project, ProtocolVersion
from labelapp.models.prompts import Completion, Prompt, message_hash, text_hash
from labelapp.models.comparisons import Batch, Comparison, ComparisonCompletion, Draft, Skip, Slot
from labelapp.models.compute import Booking, Estimate
from labelapp.models.counts import BulkChange, LabelerPace, ProjectCounts, QueueHealth, WorkHour
from labelapp.models.judgments import Judgment, Review
from labelapp.models.snapshots import Snapshot
from labelapp.models.versions import Deployment, DeploymentEvent, Version
from labelapp.models.recipes import Recipe, RecipeVersion
from labelapp.models.rounds import DeviceHold, MetricRow, Round, RoundEvent, Stage
from labelapp.models.plans import SamplingPlan
from labelapp.models.schedules import Schedule
from labelapp.models.notices import Delivery, Subscription
from labelapp.models.lineage import SnapshotSource, SnapshotSpan
from labelapp.models.audits import Audit, AuditMetric
from labelapp.models.gates import GateOverride, GateRule, GateSettings
from labelapp.models.trials import Trial
from labelapp.models.serving import ApiKey, EngineVersion
from labelapp.models.chat import ChatSide, ChatTurn, Conversation, UpstreamModel
from labelapp.models.processes import Process

__all__ = [
    "ApiKey",
    "Audit",
    "AuditMetric",
    "Batch",
    "Booking",
    "BulkChange",
    "ChatSide",
    "ChatTurn",
    "Comparison",
    "ComparisonCompletion",
    "Completion",
    "Consent",
    "ConsentVersion",
    "Conversation",
    "Delivery",
    "Deployment",
    "DeploymentEvent",
    "DeviceHold",
    "Draft",
    "EngineVersion",
    "Estimate",
    "GateOverride",
    "GateRule",
    "GateSettings",
    "GuidelineVersion",
    "Invitation",
    "Judgment",
    "LabelerPace",
    "Membership",
    "MetricRow",
    "Process",
    "Project",
    "ProjectCounts",
    "Prompt",
    "ProtocolVersion",
    "QueueHealth",
    "Recipe",
    "RecipeVersion",
    "Review",
    "Round",
    "RoundEvent",
    "SamplingPlan",
    "Schedule",
    "Skip",
    "Slot",
    "Snapshot",
    "SnapshotSource",
    "SnapshotSpan",
    "Stage",
    "Subscription",
    "Trial",
    "UpstreamModel",
    "User",
    "Version",
    "WorkDay",
    "WorkHour",
    "message_hash",
    "text_hash",
]
