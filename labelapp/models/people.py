"""People and what they may do in a project."""

from django.conf import settings
from django.contrib.auth.models import AbstractUser
from django.db import models


class User(AbstractUser):
    """A person who signs in. What they may do is decided by their memberships, project by project."""


class MembershipQuerySet(models.QuerySet):
    def of(self, user):
        return self.filter(user=user, user__is_active=True)


class Membership(models.Model):
    """One person's role in one project."""

    class Role(models.TextChoices):
        LABELER = "labeler"
        REVIEWER = "reviewer"
        RESEARCHER = "researcher"
        ADMIN = "admin"

    project = models.ForeignKey("labelapp.Project", models.CASCADE, related_name="memberships")
    user = models.ForeignKey(settings.AUTH_USER_MODEL, models.CASCADE, related_name="memberships")
    role = models.CharField(max_length=10, choices=Role)
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
