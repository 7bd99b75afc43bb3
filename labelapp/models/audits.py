"""What was measured of a version before anyone promoted it. Append-only."""

from django.db import models

from labelapp.models.versions import Version


class Audit(models.Model):
    """The measurements of one version under one suite, from one result.json."""

    class Verdict(models.TextChoices):
        PASS = "pass"
        WARN = "warn"
        BLOCK = "block"
        NO_EVIDENCE = "no-evidence"

    version = models.ForeignKey(Version, models.PROTECT, related_name="audits")
    stage = models.ForeignKey("labelapp.Stage", models.PROTECT, related_name="audits")
    suite = models.CharField(max_length=40, help_text="Name and version of the set of measurements.")
    verdict = models.CharField(max_length=11, choices=Verdict)
    reasons = models.JSONField(default=list, help_text="Why the verdict is what it is, one sentence each.")
    result_path = models.CharField(max_length=500)
    result_sha256 = models.CharField(max_length=64)
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["version", "stage", "suite"], name="stage_is_judged_once_per_suite"),
        ]
        ordering = ["-created_at"]

    def __str__(self):
        return f"audit of {self.version_id} under {self.suite}"


class AuditMetric(models.Model):
    """One figure with its interval, its trivial baselines and its verdict."""

    audit = models.ForeignKey(Audit, models.PROTECT, related_name="metrics")
    key = models.CharField(max_length=60)
    value = models.FloatField(null=True)
    low = models.FloatField(null=True)
    high = models.FloatField(null=True)
    n = models.PositiveIntegerField(null=True)
    clusters = models.PositiveIntegerField(null=True)
    unit = models.CharField(max_length=40, blank=True)
    baselines = models.JSONField(default=dict, blank=True)
    note = models.TextField(blank=True)
    verdict = models.CharField(max_length=11, choices=Audit.Verdict, blank=True)

    class Meta:
        constraints = [models.UniqueConstraint(fields=["audit", "key"], name="metric_once_per_audit")]
        ordering = ["pk"]

    def __str__(self):
        return self.key
