"""Frozen preference datasets. The rows cite files that never change."""

from django.conf import settings
from django.db import models

from labelapp.models.projects import Project


class Snapshot(models.Model):
    """A directory of files named by its digest: what a researcher downloads is what the trainer reads."""

    project = models.ForeignKey(Project, models.PROTECT, related_name="snapshots")
    digest = models.CharField(max_length=64, help_text="SHA-256 of manifest.json.")
    path = models.CharField(max_length=500)
    manifest = models.JSONField()
    pairs_train = models.PositiveIntegerField()
    pairs_test = models.PositiveIntegerField()
    judgments = models.PositiveIntegerField()
    created_by = models.ForeignKey(settings.AUTH_USER_MODEL, models.PROTECT, null=True, blank=True)
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["project", "digest"], name="snapshot_digest_is_unique_in_project")
        ]
        ordering = ["-created_at"]

    def __str__(self):
        return self.digest[:8]
