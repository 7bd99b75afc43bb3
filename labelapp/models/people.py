"""People and what they may do in a project."""

import random

from django.conf import settings
from django.contrib.auth.models import AbstractUser
from django.contrib.postgres.fields import ArrayField
from django.db import models
from django.utils.translation import gettext_lazy as _


class User(AbstractUser):
    """A person who signs in. What they may do is decided by their memberships, project by project."""


def random_start() -> int:
    """Where in the queue's random order a labeler begins: each reads the same items in an order of their own."""
    return random.randrange(-(2**31), 2**31)


class MembershipQuerySet(models.QuerySet):
    def of(self, user):
        return self.filter(user=user, user__is_active=True)


class Membership(models.Model):
    """One person's role in one project."""

    class Role(models.TextChoices):
        LABELER = "labeler", _("Labeler")
        REVIEWER = "reviewer", _("Reviewer")
        RESEARCHER = "researcher", _("Researcher")
        ADMIN = "admin", _("Admin")

    project = models.ForeignKey("labelapp.Project", models.CASCADE, related_name="memberships")
    user = models.ForeignKey(settings.AUTH_USER_MODEL, models.CASCADE, related_name="memberships")
    role = models.CharField(max_length=10, choices=Role)
    tags = ArrayField(
        models.CharField(max_length=40), default=list, blank=True,
        help_text="Languages and skills: an item is handed only to people with all the tags it requires.",
    )
    daily_cap = models.PositiveIntegerField(null=True, blank=True, help_text="Instead of the project's.")
    paused_at = models.DateTimeField(null=True, blank=True, help_text="No items are handed out since then.")
    paused_because = models.TextField(blank=True)
    qualified_at = models.DateTimeField(null=True, blank=True, help_text="When the quiz was passed.")
    consent = models.ForeignKey(
        "labelapp.Consent", models.PROTECT, null=True, blank=True, related_name="+", help_text="The latest given."
    )
    guideline_seen = models.PositiveIntegerField(default=0, help_text="Number of the version read last.")
    shuffle_start = models.IntegerField(default=random_start)
    passed_until = models.DateTimeField(null=True, blank=True, help_text="Until then the queue is not looked through")
    passed_below = models.BigIntegerField(null=True, blank=True, help_text="below this priority: it held nothing.")
    created_at = models.DateTimeField(auto_now_add=True)

    objects = MembershipQuerySet.as_manager()

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["project", "user"], name="one_membership_per_person_and_project"),
            models.CheckConstraint(
                condition=models.Q(role__in=["labeler", "reviewer", "researcher", "admin"]),
                name="membership_role_is_known",
            ),
        ]

    def __str__(self):
        return f"{self.user} is {self.role} of {self.project}"

    @property
    def cap(self) -> int | None:
        """How many judgments the member may make in a day; None: as many as they like."""
        return self.project.daily_cap if self.daily_cap is None else self.daily_cap

    @property
    def is_before_quiz(self) -> bool:
        """Whether a quiz that they have not passed stands between this person and the work."""
        return self.role == self.Role.LABELER and self.project.quiz_items > 0 and self.qualified_at is None


class Consent(models.Model):
    """One person's yes to one consent text. Every judgment made under it cites it."""

    version = models.ForeignKey("labelapp.ConsentVersion", models.PROTECT, related_name="consents")
    labeler = models.ForeignKey(settings.AUTH_USER_MODEL, models.PROTECT, related_name="consents")
    accepted_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        constraints = [models.UniqueConstraint(fields=["version", "labeler"], name="one_consent_per_version")]


class Invitation(models.Model):
    """A link that lets people join a project in one role, for a time and a number of times."""

    project = models.ForeignKey("labelapp.Project", models.CASCADE, related_name="invitations")
    role = models.CharField(max_length=10, choices=Membership.Role, default=Membership.Role.LABELER)
    tags = ArrayField(models.CharField(max_length=40), default=list, blank=True)
    token_sha256 = models.CharField(max_length=64, unique=True, help_text="The token itself is shown once.")
    expires_at = models.DateTimeField()
    uses_left = models.PositiveIntegerField(default=1)
    revoked_at = models.DateTimeField(null=True, blank=True)
    created_by = models.ForeignKey(settings.AUTH_USER_MODEL, models.PROTECT, related_name="+")
    created_at = models.DateTimeField(auto_now_add=True)


class WorkDay(models.Model):
    """What one labeler did in one project on one day (UTC): a running count, so that no page has to count rows."""

    project = models.ForeignKey("labelapp.Project", models.CASCADE, related_name="work_days")
    labeler = models.ForeignKey(settings.AUTH_USER_MODEL, models.CASCADE, related_name="work_days")
    day = models.DateField()
    judged = models.IntegerField(default=0, db_default=0, help_text="Slots closed; an undo takes one away.")
    skipped = models.IntegerField(default=0, db_default=0)
    active_seconds = models.FloatField(default=0, db_default=0)

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["project", "labeler", "day"], name="one_work_day_per_labeler_and_date")
        ]
