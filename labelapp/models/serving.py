"""Who may ask the policy, and what the engine holds."""

from django.conf import settings
from django.db import models

from labelapp.models.projects import Project
from labelapp.models.versions import Version


class ApiKey(models.Model):
    """A key to one project's /v1 and its snapshots.

    The secret is shown once; only its SHA-256 is kept (256 random bits need no salt).
    """

    project = models.ForeignKey(Project, models.CASCADE, related_name="api_keys")
    name = models.CharField(max_length=80)
    key_id = models.CharField(max_length=8, unique=True)
    secret_sha256 = models.CharField(max_length=64)
    created_by = models.ForeignKey(settings.AUTH_USER_MODEL, models.PROTECT, null=True, blank=True)
    created_at = models.DateTimeField(auto_now_add=True)
    last_used_at = models.DateTimeField(null=True, blank=True)
    revoked_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        ordering = ["-created_at"]

    def __str__(self):
        return f"{self.name} ({self.key_id})"


class EngineVersion(models.Model):
    """A version the engine holds, is loading, or could not load."""

    class State(models.TextChoices):
        LOADING = "loading"
        READY = "ready"
        FAILED = "failed"

    version = models.OneToOneField(Version, models.CASCADE, related_name="engine")
    state = models.CharField(max_length=7, choices=State)
    error = models.TextField(blank=True)
    load_seconds = models.FloatField(null=True, blank=True)
    canary = models.CharField(max_length=64, blank=True, help_text="SHA-256 of the canary completion's token ids.")
    updated_at = models.DateTimeField(auto_now=True)
