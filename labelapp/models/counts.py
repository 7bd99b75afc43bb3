"""What a background task counted, so that no page has to count the rows of a big table; and what an admin changed."""

from django.conf import settings
from django.db import models

from labelapp.models.comparisons import Batch
from labelapp.models.projects import Project


class QueueHealth(models.Model):
    """How much waits in a project's queue, as last counted: one row for the whole of it, and one for each batch."""

    project = models.ForeignKey(Project, models.CASCADE, related_name="queue_health")
    batch = models.ForeignKey(Batch, models.CASCADE, null=True, blank=True, related_name="queue_health")
    open = models.IntegerField(default=0, help_text="Places free for anybody.")
    leased = models.IntegerField(default=0)
    lapsed = models.IntegerField(default=0, help_text="Leases that ran out; the next claim takes them.")
    reserved = models.IntegerField(default=0, help_text="Places that wait for one person.")
    done = models.IntegerField(default=0, help_text="Of a batch.")
    oldest_open_at = models.DateTimeField(null=True, blank=True)
    oldest_slot = models.BigIntegerField(default=0, help_text="Where to look for the oldest open place next time.")
    skips = models.JSONField(default=dict, help_text="{reasons: {reason: count}, many: [[comparison, people]]}")
    mark = models.CharField(max_length=80, blank=True, help_text="Differs once there is something new to count.")
    counted_at = models.DateTimeField(null=True, blank=True)
    count_seconds = models.FloatField(default=0)
    checked_at = models.DateTimeField(null=True, blank=True, help_text="When somebody last looked whether to count.")

    class Meta:
        constraints = [
            models.UniqueConstraint(
                fields=["project", "batch"], nulls_distinct=False, name="one_queue_health_per_project_and_batch"
            )
        ]

    @property
    def waiting(self) -> int:
        """Judgments still to be made."""
        return self.open + self.leased + self.lapsed + self.reserved


class WorkHour(models.Model):
    """How many judgments a project got in an hour."""

    project = models.ForeignKey(Project, models.CASCADE, related_name="work_hours")
    hour = models.DateTimeField()
    judged = models.IntegerField(default=0)

    class Meta:
        constraints = [models.UniqueConstraint(fields=["project", "hour"], name="one_work_hour_per_project")]


class LabelerPace(models.Model):
    """How fast somebody judges: medians of active seconds over the last thousand judgments of seven days."""

    project = models.ForeignKey(Project, models.CASCADE, related_name="paces")
    labeler = models.ForeignKey(settings.AUTH_USER_MODEL, models.CASCADE, related_name="paces")
    seconds_today = models.FloatField(null=True, blank=True)
    seconds_week = models.FloatField(null=True, blank=True)
    last_judged_at = models.DateTimeField(null=True, blank=True)
    repeats = models.IntegerField(default=0, db_default=0, help_text="Swapped repeats answered,")
    repeats_same = models.IntegerField(default=0, db_default=0, help_text="and of them like the first time.")
    gold = models.IntegerField(default=0, db_default=0, help_text="Known answers asked for,")
    gold_right = models.IntegerField(default=0, db_default=0, help_text="and found.")
    checked_at = models.DateTimeField(null=True, blank=True, help_text="When these four were counted.")

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["project", "labeler"], name="one_pace_per_project_and_labeler")
        ]


class ProjectCounts(models.Model):
    """How many rows a project has, as last counted. Pages count for themselves as long as that is quick."""

    project = models.OneToOneField(Project, models.CASCADE, related_name="counts")
    figures = models.JSONField(default=dict)
    count_seconds = models.FloatField(default=0)
    counted_at = models.DateTimeField()


class BulkChange(models.Model):
    """One change of many comparisons at once: who ordered what, for which rows, and what came of it."""

    class State(models.TextChoices):
        WAITING = "waiting"
        DONE = "done"
        REFUSED = "refused"
        FAILED = "failed"

    project = models.ForeignKey(Project, models.CASCADE, related_name="bulk_changes")
    by = models.ForeignKey(settings.AUTH_USER_MODEL, models.PROTECT, related_name="+")
    submission_id = models.UUIDField(unique=True, help_text="A second click finds the first's row.")
    picked = models.JSONField(help_text="The filter, or the ids of the comparisons.")
    order = models.JSONField(help_text="What is changed, to what.")
    expected = models.IntegerField(help_text="How many comparisons were confirmed.")
    state = models.CharField(max_length=8, choices=State, default=State.WAITING)
    outcome = models.TextField(blank=True, help_text="What was done, or why not, in a sentence.")
    created_at = models.DateTimeField(auto_now_add=True)
    ended_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        ordering = ["-pk"]
