"""People compare a candidate with the version that answers, blind."""

from django.conf import settings
from django.db import models
from django.db.models import F, Q

from labelapp.models.comparisons import Batch
from labelapp.models.projects import Project
from labelapp.models.rounds import Round
from labelapp.models.versions import Version


class Trial(models.Model):
    """One order of blind comparisons: what it is to find out, and how it ended.

    Its comparisons are those of its sampling round, in a batch of their own. `outcome` is written once.
    """

    class Outcome(models.TextChoices):
        OPEN = "", "open"
        CANDIDATE = "candidate", "the candidate is better"
        CHAMPION = "champion", "the champion is better"
        EVEN = "even", "no difference of that size"
        UNDECIDED = "undecided", "ended undecided"

    project = models.ForeignKey(Project, models.PROTECT, related_name="trials")
    candidate = models.ForeignKey(Version, models.PROTECT, related_name="trials")
    champion = models.ForeignKey(Version, models.PROTECT, related_name="+")
    round = models.OneToOneField(Round, models.PROTECT, related_name="trial")
    batch = models.OneToOneField(Batch, models.PROTECT, related_name="trial")
    difference = models.FloatField(help_text="The smallest difference in win rate to see, a share.")
    alpha = models.FloatField(default=0.05)
    power = models.FloatField(default=0.8)
    ties = models.FloatField(default=0.0, help_text="Share of ties that was expected.")
    needed = models.PositiveIntegerField(help_text="Comparisons for that power, looked at once.")
    outcome = models.CharField(max_length=9, choices=Outcome, default=Outcome.OPEN, blank=True)
    counts = models.JSONField(default=dict, blank=True, help_text="Wins, losses, ties and interval when it ended.")
    ordered_by = models.ForeignKey(settings.AUTH_USER_MODEL, models.PROTECT, null=True, blank=True, related_name="+")
    ordered_at = models.DateTimeField(auto_now_add=True)
    ended_by = models.ForeignKey(settings.AUTH_USER_MODEL, models.PROTECT, null=True, blank=True, related_name="+")
    ended_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        constraints = [
            models.CheckConstraint(condition=~Q(candidate=F("champion")), name="trial_compares_two_versions"),
            models.CheckConstraint(
                condition=Q(difference__gt=0, difference__lte=0.2, alpha__gt=0, alpha__lt=0.5)
                & Q(power__gt=0, power__lt=1, ties__gte=0, ties__lt=1),
                name="trial_asks_for_something_possible",
            ),
            models.CheckConstraint(
                condition=Q(outcome="", ended_at__isnull=True) | (~Q(outcome="") & Q(ended_at__isnull=False)),
                name="trial_has_an_outcome_when_it_ends",
            ),
            models.UniqueConstraint(
                fields=["candidate", "champion"], condition=Q(outcome=""), name="one_open_trial_of_two_versions"
            ),
        ]
        ordering = ["-pk"]

    def __str__(self):
        return f"{self.candidate} against {self.champion}"
