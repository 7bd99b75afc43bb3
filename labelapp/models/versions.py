"""Trained models, and which of them answers."""

from django.conf import settings
from django.db import models
from django.db.models import Q

from labelapp.models.projects import Project


class Version(models.Model):
    """A checkpoint directory with its lineage. Only its state moves: candidate, promoted, retired."""

    class Kind(models.TextChoices):
        POLICY = "policy"
        REWARD = "reward"
        COST = "cost"

    class State(models.TextChoices):
        CANDIDATE = "candidate"
        PROMOTED = "promoted"
        RETIRED = "retired"

    project = models.ForeignKey(Project, models.PROTECT, related_name="versions")
    kind = models.CharField(max_length=6, choices=Kind)
    name = models.SlugField(max_length=80, help_text="Such as policy-r12-3fa9c1d2; unique, and the model id in /v1.")
    state = models.CharField(max_length=9, choices=State, default=State.CANDIDATE)
    path = models.CharField(max_length=500)
    digest = models.CharField(max_length=64, help_text="SHA-256 of the checkpoint's manifest.json.")
    parent = models.ForeignKey("self", models.PROTECT, null=True, blank=True, related_name="children")
    round = models.ForeignKey(
        "labelapp.Round", models.PROTECT, null=True, blank=True, related_name="versions"
    )
    snapshot = models.ForeignKey(
        "labelapp.Snapshot", models.PROTECT, null=True, blank=True, related_name="versions"
    )
    card = models.JSONField(default=dict, blank=True)
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["project", "name"], name="version_name_is_unique_in_project"),
        ]
        ordering = ["-created_at"]

    def __str__(self):
        return self.name


class Deployment(models.Model):
    """A public alias and the version behind it. The epoch only grows; promote and roll back both add one.

    A switch to a version that the engine has not loaded waits in the `pending` columns: what, by whom, why.
    """

    class Action(models.TextChoices):
        PROMOTE = "promote"
        ROLLBACK = "rollback"

    project = models.ForeignKey(Project, models.PROTECT, related_name="deployments")
    alias = models.SlugField(max_length=60, default="policy")
    version = models.ForeignKey(Version, models.PROTECT, null=True, blank=True, related_name="deployments")
    pending = models.ForeignKey(
        Version, models.PROTECT, null=True, blank=True, related_name="+",
        help_text="Promoted by a person; the epoch moves when the engine has loaded and canaried it.",
    )
    pending_since = models.DateTimeField(null=True, blank=True)
    pending_action = models.CharField(max_length=8, choices=Action, blank=True)
    pending_by = models.ForeignKey(settings.AUTH_USER_MODEL, models.PROTECT, null=True, blank=True, related_name="+")
    pending_reason = models.TextField(blank=True)
    pending_gate = models.JSONField(default=dict, blank=True, help_text="What the gate said of it.")
    pending_error = models.TextField(blank=True, help_text="Why the last switch was given up; cleared by the next.")
    epoch = models.PositiveIntegerField(default=0)

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["project", "alias"], name="alias_is_unique_in_project"),
            models.CheckConstraint(
                condition=Q(pending__isnull=True, pending_since__isnull=True, pending_action="")
                | (Q(pending__isnull=False, pending_since__isnull=False) & ~Q(pending_action="")),
                name="pending_switch_says_since_when_and_what",
            ),
        ]

    def __str__(self):
        return f"{self.alias} (epoch {self.epoch})"


class DeploymentEvent(models.Model):
    """The audit row of one epoch: who moved the alias, from what, to what and why. Append-only."""

    deployment = models.ForeignKey(Deployment, models.PROTECT, related_name="events")
    epoch = models.PositiveIntegerField()
    action = models.CharField(max_length=8, choices=Deployment.Action)
    version = models.ForeignKey(Version, models.PROTECT, related_name="deployment_events")
    previous = models.ForeignKey(Version, models.PROTECT, null=True, blank=True, related_name="+")
    audit = models.ForeignKey("labelapp.Audit", models.PROTECT, null=True, blank=True, related_name="+")
    by = models.ForeignKey(settings.AUTH_USER_MODEL, models.PROTECT, null=True, blank=True)
    reason = models.TextField(blank=True, help_text="Required when the gate did not pass.")
    gate = models.JSONField(default=dict, blank=True, help_text="What the gate said then: verdict and arithmetic.")
    switch_seconds = models.FloatField(null=True, blank=True)
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["deployment", "epoch"], name="epoch_happens_once"),
            models.CheckConstraint(condition=Q(epoch__gte=1), name="epochs_start_at_one"),
        ]
        ordering = ["-epoch"]

    def __str__(self):
        return f"epoch {self.epoch}: {self.action}"
