"""The processes of this installation, as their own heartbeats report them."""

from django.db import models


class Process(models.Model):
    """A running web, worker, trainer, beat or engine process."""

    kind = models.CharField(max_length=20)
    name = models.CharField(max_length=120)
    host = models.CharField(max_length=120)
    pid = models.PositiveIntegerField()
    version = models.CharField(max_length=40, blank=True)
    detail = models.JSONField(default=dict, blank=True)
    started_at = models.DateTimeField(auto_now_add=True)
    heartbeat_at = models.DateTimeField()

    class Meta:
        constraints = [models.UniqueConstraint(fields=["host", "name"], name="process_name_is_unique_on_host")]
        ordering = ["kind", "name"]
