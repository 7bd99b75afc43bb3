"""Rounds that launch themselves."""

from django.conf import settings
from django.db import models
from django.db.models import Q
from django.db.models.functions import Now

from labelapp.models.projects import Project


class Schedule(models.Model):
    """When a project's next round begins, and with what. One a project.

    A round is due once `every_judgments` more judgments stand than at `seen_judgments`, or once `cron` has had a time
    since `looked_at`. busy_until: a worker is freezing and launching, and is given up for lost after that.
    """

    project = models.OneToOneField(Project, models.CASCADE, related_name="schedule")
    enabled = models.BooleanField(default=False)
    every_judgments = models.PositiveIntegerField(null=True, blank=True)
    cron = models.CharField(max_length=100, blank=True)
    recipe = models.CharField(max_length=40)
    recipe_version = models.ForeignKey(
        "labelapp.RecipeVersion", models.PROTECT, null=True, blank=True, related_name="+",
        help_text="A saved recipe, which goes before the fields `recipe`, `mitigation` and `further`.",
    )
    mitigation = models.BooleanField(default=False)
    further = models.TextField(blank=True)
    seen_judgments = models.PositiveIntegerField(default=0)
    looked_at = models.DateTimeField(db_default=Now())
    busy_until = models.DateTimeField(null=True, blank=True)
    last_round = models.ForeignKey("labelapp.Round", models.PROTECT, null=True, blank=True, related_name="+")
    outcome = models.TextField(blank=True, help_text="What came of the last time, in a sentence.")
    changed_by = models.ForeignKey(settings.AUTH_USER_MODEL, models.PROTECT, null=True, blank=True, related_name="+")

    class Meta:
        constraints = [
            models.CheckConstraint(
                condition=Q(enabled=False) | Q(every_judgments__gt=0) | ~Q(cron=""),
                name="enabled_schedule_has_a_reason_to_run",
            ),
        ]

    def __str__(self):
        return f"schedule of {self.project_id}"
