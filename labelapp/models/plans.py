"""What a project has compared next: whose answers, and how they are picked."""

from django.conf import settings
from django.db import models
from django.db.models import Q

from labelapp.models.projects import Project


class SamplingPlan(models.Model):
    """A kept way to make new comparisons: two sides, and what picks among the candidates.

    The sides are roles and not versions, so that a plan stays right when another version is promoted.
    """

    class Side(models.TextChoices):
        CHAMPION = "champion", "the promoted version"
        CANDIDATE = "candidate", "the newest candidate"
        PARENT = "parent", "the first side's parent"
        SAME = "same", "the first side once more"
        AUTHOR = "author", "stored answers of another model"

    class Signal(models.TextChoices):
        NONE = "", "chance alone"
        DISAGREEMENT = "disagreement", "the reward ensemble disagrees"
        MARGIN = "margin", "the reward model can hardly tell"
        DRIFT = "drift", "the two policies differ most"
        LENGTH = "length", "the reward model prefers the longer one, as an audit may doubt"

    project = models.ForeignKey(Project, models.CASCADE, related_name="sampling_plans")
    name = models.CharField(max_length=80)
    first = models.CharField(max_length=9, choices=Side, default=Side.CHAMPION)
    second = models.CharField(max_length=9, choices=Side, default=Side.PARENT)
    author = models.CharField(max_length=200, blank=True, help_text="Of the second side, where it is another model.")
    first_temperature = models.FloatField(default=1.0)
    second_temperature = models.FloatField(default=1.0)
    max_new_tokens = models.PositiveIntegerField(default=96)
    comparisons = models.PositiveIntegerField(default=20, help_text="How many are put into the queue.")
    candidates = models.PositiveSmallIntegerField(default=4, help_text="Candidates made for each of them.")
    signal = models.CharField(max_length=12, choices=Signal, default=Signal.NONE, blank=True)
    control_share = models.FloatField(default=0.2, help_text="Share that chance alone picks.")
    created_by = models.ForeignKey(settings.AUTH_USER_MODEL, models.PROTECT, null=True, blank=True, related_name="+")
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["project", "name"], name="plan_name_is_unique_in_project"),
            models.CheckConstraint(
                condition=Q(control_share__gte=0.05, control_share__lte=1), name="plan_always_has_a_control_arm"
            ),
            models.CheckConstraint(
                condition=Q(second="author") & ~Q(author="") | ~Q(second="author") & Q(author=""),
                name="plan_names_an_author_where_it_needs_one",
            ),
            models.CheckConstraint(condition=Q(first__in=["champion", "candidate"]), name="plan_samples_a_version"),
            models.CheckConstraint(
                condition=Q(comparisons__gte=1, comparisons__lte=10_000, candidates__gte=1, candidates__lte=20),
                name="plan_is_of_a_size",
            ),
        ]
        ordering = ["name"]

    def __str__(self):
        return self.name
