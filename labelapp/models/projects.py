"""A project and the two texts every judgment cites: its guidelines and its protocol."""

from django.db import models


class ProjectQuerySet(models.QuerySet):
    def visible_to(self, user):
        """Projects the person is a member of."""
        return self.filter(memberships__user=user)


class Project(models.Model):
    """What a team aligns: prompts, people, rounds and one served policy."""

    slug = models.SlugField(unique=True)
    name = models.CharField(max_length=120)
    description = models.TextField(blank=True)
    overlap = models.PositiveSmallIntegerField(default=1, help_text="Independent judgments a comparison gets.")
    test_share = models.FloatField(default=0.2, help_text="Share of groups held out for testing, 0 to 1.")
    created_at = models.DateTimeField(auto_now_add=True)

    objects = ProjectQuerySet.as_manager()

    class Meta:
        constraints = [
            models.CheckConstraint(condition=models.Q(overlap__gte=1), name="project_overlap_is_positive"),
            models.CheckConstraint(
                condition=models.Q(test_share__gt=0, test_share__lt=1), name="project_test_share_is_a_share"
            ),
        ]

    def __str__(self):
        return self.name


class NumberedText(models.Model):
    """A version of a text: never edited, a change is the next number."""

    number = models.PositiveIntegerField()
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        abstract = True
        ordering = ["number"]


class GuidelineVersion(NumberedText):
    """What labelers are told, as markdown."""

    project = models.ForeignKey(Project, models.CASCADE, related_name="guideline_versions")
    text = models.TextField()

    class Meta(NumberedText.Meta):
        constraints = [
            models.UniqueConstraint(fields=["project", "number"], name="guideline_number_is_unique_in_project")
        ]

    def __str__(self):
        return f"guidelines v{self.number}"


class ProtocolVersion(NumberedText):
    """What is asked of a labeler.

    definition: {"question": str, "max_strength": 3, "tie": true, "both_bad": true}
    """

    project = models.ForeignKey(Project, models.CASCADE, related_name="protocol_versions")
    definition = models.JSONField()

    class Meta(NumberedText.Meta):
        constraints = [
            models.UniqueConstraint(fields=["project", "number"], name="protocol_number_is_unique_in_project")
        ]

    def __str__(self):
        return f"protocol v{self.number}"
