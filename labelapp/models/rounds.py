"""One run of the pipeline, its stages, and everything it reported."""

from datetime import timedelta

from django.conf import settings
from django.db import models
from django.db.models import Q

from labelapp.models.projects import Project

ACTIVE_STATES = ["queued", "running"]


class Round(models.Model):
    """One training (or sampling) run. The row is the truth; the broker's message only rings.

    recipe: {"name": str, "stages": [{"name": str, "stage": str, "config": {...}, "seed": int}, ...]}
    `token` is the fencing token: it grows with every claim, and every write of a supervisor must match it.
    """

    class Kind(models.TextChoices):
        TRAINING = "training"
        SAMPLING = "sampling"

    class State(models.TextChoices):
        QUEUED = "queued"
        RUNNING = "running"
        DONE = "done"
        FAILED = "failed"
        CANCELLED = "cancelled"

    project = models.ForeignKey(Project, models.PROTECT, related_name="rounds")
    number = models.PositiveIntegerField(help_text="Counts the project's rounds from 1.")
    kind = models.CharField(max_length=8, choices=Kind, default=Kind.TRAINING)
    state = models.CharField(max_length=9, choices=State, default=State.QUEUED)
    recipe = models.JSONField()
    recipe_version = models.ForeignKey(
        "labelapp.RecipeVersion", models.PROTECT, null=True, blank=True, related_name="rounds",
        help_text="The saved recipe that runs unchanged; none where the form's own settings do.",
    )
    mitigation = models.BooleanField(default=False, help_text="Counterfactual penalty on, with a baseline arm.")
    snapshot = models.ForeignKey(
        "labelapp.Snapshot", models.PROTECT, null=True, blank=True, related_name="rounds"
    )
    parent = models.ForeignKey("labelapp.Version", models.PROTECT, null=True, related_name="child_rounds")
    seed = models.PositiveIntegerField(default=0)
    token = models.PositiveBigIntegerField(default=0)
    attempt = models.PositiveIntegerField(default=0)
    max_attempts = models.PositiveIntegerField(default=5)
    owner = models.CharField(max_length=120, blank=True)
    lease_until = models.DateTimeField(null=True, blank=True)
    heartbeat_at = models.DateTimeField(null=True, blank=True)
    device_time = models.DurationField(
        default=timedelta, help_text="How long workers held the round so far, every attempt of it, by their heartbeats."
    )
    expected = models.JSONField(null=True, blank=True, help_text="What it was reckoned to take; see rounds.budget.")
    rung_at = models.DateTimeField(null=True, blank=True, help_text="When the doorbell was last rung.")
    cancel_requested_at = models.DateTimeField(null=True, blank=True)
    error_code = models.CharField(max_length=40, blank=True)
    error = models.TextField(blank=True)
    created_by = models.ForeignKey(settings.AUTH_USER_MODEL, models.PROTECT, null=True, blank=True)
    created_at = models.DateTimeField(auto_now_add=True)
    started_at = models.DateTimeField(null=True, blank=True)
    finished_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["project", "number"], name="round_number_is_unique_in_project"),
            models.UniqueConstraint(
                fields=["project", "kind"],
                condition=Q(state__in=ACTIVE_STATES),
                name="one_active_round_per_project",
            ),
            models.CheckConstraint(
                condition=~Q(state="running") | Q(lease_until__isnull=False), name="running_round_has_a_lease"
            ),
        ]
        ordering = ["-number"]

    def __str__(self):
        return f"round {self.number}"

    @property
    def booking(self):
        """The newest; none before the round has ended once."""
        return self.bookings.first()


class DeviceHold(models.Model):
    """A device that a claimed round holds: no other does, and the row goes with the lease."""

    round = models.ForeignKey(Round, models.CASCADE, related_name="device_holds")
    host = models.CharField(max_length=120, help_text="The machine that the device is in.")
    device = models.CharField(max_length=80, help_text="As CUDA_VISIBLE_DEVICES names it.")
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        constraints = [models.UniqueConstraint(fields=["host", "device"], name="one_round_holds_a_device")]


class RoundEvent(models.Model):
    """A transition of a round, written in its transaction. Append-only."""

    round = models.ForeignKey(Round, models.CASCADE, related_name="events")
    kind = models.CharField(max_length=40, help_text="launched, claimed, stage_started, done, cancel_requested, ...")
    detail = models.JSONField(default=dict, blank=True)
    by = models.ForeignKey(settings.AUTH_USER_MODEL, models.PROTECT, null=True, blank=True)
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        ordering = ["pk"]


class Stage(models.Model):
    """One subprocess of a round: what was asked (job), how far it is, what it said (result.json)."""

    class State(models.TextChoices):
        WAITING = "waiting"
        RUNNING = "running"
        DONE = "done"
        FAILED = "failed"
        CANCELLED = "cancelled"

    round = models.ForeignKey(Round, models.CASCADE, related_name="stages")
    number = models.PositiveSmallIntegerField()
    name = models.CharField(max_length=40, help_text="Unique in the round: reward, reward_baseline, preference, ...")
    stage = models.CharField(max_length=20, help_text="The stage of alignment/ that runs.")
    state = models.CharField(max_length=9, choices=State, default=State.WAITING)
    output = models.CharField(max_length=500, blank=True, help_text="Directory of the latest attempt.")
    job = models.JSONField(default=dict, blank=True)
    result = models.JSONField(null=True, blank=True, help_text="result.json, as the stage wrote it.")
    step = models.PositiveIntegerField(default=0)
    steps = models.PositiveIntegerField(default=0)
    started_at = models.DateTimeField(null=True, blank=True)
    finished_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["round", "number"], name="stage_number_is_unique_in_round"),
            models.UniqueConstraint(fields=["round", "name"], name="stage_name_is_unique_in_round"),
        ]
        ordering = ["number"]

    def __str__(self):
        return f"{self.name} of round {self.round_id}"


class MetricRow(models.Model):
    """One line of a stage's metrics.jsonl. A resumed attempt replaces the steps it runs again."""

    stage = models.ForeignKey(Stage, models.CASCADE, related_name="metric_rows")
    step = models.PositiveIntegerField()
    values = models.JSONField()

    class Meta:
        constraints = [models.UniqueConstraint(fields=["stage", "step"], name="one_metric_row_per_step")]
        ordering = ["pk"]
