"""Who is told when a round ends, and what became of each message."""

import uuid

from django.conf import settings
from django.db import models
from django.db.models import Q
from django.db.models.functions import Now

from labelapp.models.projects import Project
from labelapp.models.rounds import RoundEvent


class Subscription(models.Model):
    """An e-mail address or a webhook that hears of a project's rounds when they end.

    A webhook's signing secret is not stored: it is made of the server's SECRET_KEY and `nonce`.
    """

    class Kind(models.TextChoices):
        EMAIL = "email"
        WEBHOOK = "webhook"

    project = models.ForeignKey(Project, models.CASCADE, related_name="subscriptions")
    kind = models.CharField(max_length=7, choices=Kind)
    address = models.CharField(max_length=500, help_text="A web address, or the subscriber's e-mail address.")
    origin = models.CharField(max_length=200, help_text="Where links in the messages lead: https://labels.example.org")
    nonce = models.UUIDField(default=uuid.uuid4, editable=False)
    created_by = models.ForeignKey(settings.AUTH_USER_MODEL, models.PROTECT, related_name="+")
    created_at = models.DateTimeField(auto_now_add=True)
    ended_at = models.DateTimeField(null=True, blank=True)
    ended_because = models.CharField(max_length=200, blank=True)

    class Meta:
        constraints = [
            models.UniqueConstraint(
                fields=["project", "address"], condition=Q(ended_at=None), name="one_standing_subscription_an_address"
            ),
        ]
        ordering = ["pk"]

    def __str__(self):
        return self.address


class Delivery(models.Model):
    """One message to one subscriber about one event, until it was taken or given up.

    A sender moves `due_at` into the future before it sends: whoever finds it there leaves the message alone.
    """

    class State(models.TextChoices):
        PENDING = "pending"
        DELIVERED = "delivered"
        FAILED = "failed"

    subscription = models.ForeignKey(Subscription, models.CASCADE, related_name="deliveries")
    event = models.ForeignKey(RoundEvent, models.CASCADE, null=True, help_text="None for a trial message.")
    message_id = models.UUIDField(default=uuid.uuid4, unique=True, editable=False)
    state = models.CharField(max_length=9, choices=State, default=State.PENDING)
    attempts = models.PositiveSmallIntegerField(default=0)
    due_at = models.DateTimeField(db_default=Now())
    outcome = models.CharField(max_length=300, blank=True, help_text="What the last attempt came to.")
    created_at = models.DateTimeField(auto_now_add=True)
    finished_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["subscription", "event"], name="one_message_an_event_and_subscriber"),
            models.CheckConstraint(
                condition=Q(state="pending") | Q(finished_at__isnull=False), name="ended_delivery_has_its_time"
            ),
        ]
        indexes = [models.Index(fields=["due_at"], condition=Q(state="pending"), name="deliveries_that_are_due")]
        ordering = ["-pk"]
