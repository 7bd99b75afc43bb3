"""What a project asks of a candidate before it may answer, and who went ahead against its gate."""

from django.conf import settings
from django.db import models
from django.db.models import F, Q

from labelapp.models.projects import Project
from labelapp.models.versions import Deployment, DeploymentEvent, Version


class GateSettings(models.Model):
    """One version of a project's gate. Append-only: a change is the next number. The latest one holds."""

    project = models.ForeignKey(Project, models.PROTECT, related_name="gate_settings")
    number = models.PositiveIntegerField()
    alpha = models.FloatField(default=0.05, help_text="How often the gate may err, over all its figures together.")
    second_person = models.BooleanField(default=False, help_text="Against the gate, a second admin must agree.")
    promote_on_pass = models.BooleanField(default=False, help_text="A scheduled round's candidate that passes answers.")
    by = models.ForeignKey(settings.AUTH_USER_MODEL, models.PROTECT, null=True, blank=True, related_name="+")
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["project", "number"], name="gate_number_is_unique_in_project"),
            models.CheckConstraint(condition=Q(alpha__gt=0, alpha__lt=0.5), name="gate_alpha_is_small"),
        ]
        ordering = ["number"]

    def __str__(self):
        return f"gate v{self.number}"


class GateRule(models.Model):
    """One figure that gates. Append-only.

    margin: how much worse than the champion's it may be, on the same items; limit: what it may not fall short of, or
    exceed, by itself. Both in the figure's unit.
    """

    class Direction(models.TextChoices):
        HIGHER = "higher", "higher is better"
        LOWER = "lower", "lower is better"
        ZERO = "zero", "nearer to 0 is better"

    settings = models.ForeignKey(GateSettings, models.PROTECT, related_name="rules")
    key = models.CharField(max_length=60, help_text="An AuditMetric's.")
    direction = models.CharField(max_length=6, choices=Direction)
    margin = models.FloatField(null=True, blank=True)
    limit = models.FloatField(null=True, blank=True)
    minimum = models.PositiveIntegerField(default=50, help_text="Rows below which the figure is no evidence.")

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["settings", "key"], name="figure_gates_once"),
            models.CheckConstraint(
                condition=Q(margin__isnull=False) | Q(limit__isnull=False), name="gate_rule_has_a_margin_or_a_limit"
            ),
            models.CheckConstraint(
                condition=Q(margin__isnull=True) | (Q(margin__gte=0) & ~Q(direction="zero")),
                name="gate_margin_is_of_a_figure_with_a_direction",
            ),
            models.CheckConstraint(condition=Q(minimum__gte=2), name="gate_minimum_is_two"),
        ]
        ordering = ["pk"]

    def __str__(self):
        return self.key


class GateOverride(models.Model):
    """One admin asks to promote against the gate; another one confirms, which promotes, or somebody withdraws it."""

    deployment = models.ForeignKey(Deployment, models.PROTECT, related_name="overrides")
    version = models.ForeignKey(Version, models.PROTECT, related_name="overrides")
    gate = models.JSONField(help_text="What the gate said when it was asked for.")
    reason = models.TextField()
    asked_by = models.ForeignKey(settings.AUTH_USER_MODEL, models.PROTECT, related_name="+")
    asked_at = models.DateTimeField(auto_now_add=True)
    confirmed_by = models.ForeignKey(settings.AUTH_USER_MODEL, models.PROTECT, null=True, blank=True, related_name="+")
    confirmed_at = models.DateTimeField(null=True, blank=True)
    withdrawn_by = models.ForeignKey(settings.AUTH_USER_MODEL, models.PROTECT, null=True, blank=True, related_name="+")
    withdrawn_at = models.DateTimeField(null=True, blank=True)
    event = models.OneToOneField(
        DeploymentEvent, models.PROTECT, null=True, blank=True, related_name="override",
        help_text="The epoch that it led to; none while the version is being loaded.",
    )

    class Meta:
        constraints = [
            models.CheckConstraint(
                condition=Q(confirmed_by__isnull=True) | ~Q(confirmed_by=F("asked_by")),
                name="override_is_confirmed_by_another_person",
            ),
            models.CheckConstraint(condition=~Q(reason=""), name="override_has_a_reason"),
            models.CheckConstraint(
                condition=Q(confirmed_by__isnull=True, confirmed_at__isnull=True)
                | Q(confirmed_by__isnull=False, confirmed_at__isnull=False, withdrawn_at__isnull=True),
                name="override_is_confirmed_or_withdrawn",
            ),
            models.UniqueConstraint(
                fields=["deployment", "version"],
                condition=Q(confirmed_at__isnull=True, withdrawn_at__isnull=True),
                name="one_open_override_per_version",
            ),
        ]
        ordering = ["-asked_at"]

    def __str__(self):
        return f"override of {self.version_id}"
