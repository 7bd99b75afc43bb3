"""What rounds cost in device-hours and money: estimated before, booked after."""

from django.conf import settings
from django.db import models
from django.db.models import Q
from django.db.models.functions import Now

from labelapp.models.projects import Project


class Estimate(models.Model):
    """A dry run of what a round would do. The row is the truth; the broker's message only rings.

    plan: digest of the stages. found: {"stages": [{"name", "whole_seconds", ...}], "checks": [...]}; grows as it runs.
    form: what the launch form said, to be filled in again. busy_until: a worker runs it, and is given up for lost then.
    """

    class State(models.TextChoices):
        WAITING = "waiting"
        RUNNING = "running"
        DONE = "done"
        FAILED = "failed"

    project = models.ForeignKey(Project, models.PROTECT, related_name="estimates")
    plan = models.CharField(max_length=64)
    stages = models.JSONField()
    snapshot = models.ForeignKey("labelapp.Snapshot", models.PROTECT, related_name="+")
    parent = models.ForeignKey("labelapp.Version", models.PROTECT, related_name="+")
    seed = models.PositiveIntegerField(default=0)
    form = models.JSONField(default=dict, blank=True)
    state = models.CharField(max_length=7, choices=State, default=State.WAITING)
    found = models.JSONField(default=dict, blank=True)
    error = models.TextField(blank=True)
    busy_until = models.DateTimeField(null=True, blank=True)
    created_by = models.ForeignKey(settings.AUTH_USER_MODEL, models.PROTECT, null=True, blank=True, related_name="+")
    created_at = models.DateTimeField(auto_now_add=True)
    finished_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        constraints = [
            models.CheckConstraint(
                condition=~Q(state="running") | Q(busy_until__isnull=False), name="running_estimate_says_until_when"
            ),
        ]
        indexes = [models.Index(fields=["project", "plan"], name="estimate_by_plan")]
        ordering = ["-pk"]

    def __str__(self):
        return f"estimate {self.pk}"


class Booking(models.Model):
    """What one round, or one dry run, really took. Append-only; written when it ended, however it ended.

    A round that was resumed after its end books at its next end what it took since; `token` is its own at that end.
    """

    project = models.ForeignKey(Project, models.PROTECT, related_name="bookings")
    round = models.ForeignKey("labelapp.Round", models.PROTECT, null=True, blank=True, related_name="bookings")
    token = models.PositiveBigIntegerField(default=0)
    estimate = models.OneToOneField(Estimate, models.PROTECT, null=True, blank=True, related_name="booking")
    device = models.CharField(max_length=120, help_text='"cpu", or the GPU\'s name.')
    device_seconds = models.FloatField()
    peak_bytes = models.BigIntegerField(null=True, blank=True)
    hour_price = models.DecimalField(max_digits=10, decimal_places=4, help_text="Of a device-hour, at that time.")
    money = models.DecimalField(max_digits=14, decimal_places=4)
    currency = models.CharField(max_length=3)
    created_at = models.DateTimeField(db_default=Now())

    class Meta:
        constraints = [
            models.CheckConstraint(
                condition=Q(round__isnull=False, estimate__isnull=True) | Q(round__isnull=True, estimate__isnull=False),
                name="booking_is_of_a_round_or_a_dry_run",
            ),
            models.UniqueConstraint(fields=["round", "token"], name="one_booking_an_end_of_a_round"),
            models.CheckConstraint(
                condition=Q(device_seconds__gte=0, money__gte=0, hour_price__gte=0), name="bookings_are_not_negative"
            ),
        ]
        ordering = ["-pk"]

    def __str__(self):
        return f"{self.device_seconds:.0f} s of {self.device}"

    @property
    def device_hours(self) -> float:
        return self.device_seconds / 3600
