"""A project, how its queue is run, and the texts every judgment cites: guidelines, protocol and consent."""

from django.db import models, transaction
from django.db.models import Q
from django.db.models.functions import Now


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
    max_overlap = models.PositiveSmallIntegerField(
        null=True, blank=True, help_text="Where people disagree, slots are added up to this many. Empty: never."
    )
    daily_cap = models.PositiveIntegerField(null=True, blank=True, help_text="Judgments a labeler may make in a day.")
    repeat_share = models.FloatField(default=0, help_text="Share of items shown again to the same person, swapped.")
    gold_share = models.FloatField(default=0, help_text="Share of items whose answer is known.")
    quiz_items = models.PositiveSmallIntegerField(default=0, help_text="Gold items before the first real one.")
    quiz_right = models.PositiveSmallIntegerField(default=0, help_text="How many of them must be answered right.")
    review_share = models.FloatField(default=0, help_text="Share of judgments that a reviewer looks at.")
    minimum_seconds = models.FloatField(default=0, help_text="How long an item must be on screen before an answer.")
    hourly_cost = models.DecimalField(max_digits=8, decimal_places=2, null=True, blank=True)
    currency = models.CharField(max_length=3, default="EUR")
    cpu_hour_price = models.DecimalField(max_digits=10, decimal_places=4, default=0)
    gpu_hour_price = models.DecimalField(max_digits=10, decimal_places=4, default=0)
    budget_device_hours = models.DecimalField(
        max_digits=10, decimal_places=2, null=True, blank=True, help_text="Of a calendar month. Empty: no limit."
    )
    budget_money = models.DecimalField(
        max_digits=12, decimal_places=2, null=True, blank=True, help_text="Of a calendar month. Empty: no limit."
    )
    consent_version = models.ForeignKey(
        "labelapp.ConsentVersion", models.PROTECT, null=True, blank=True, related_name="+",
        help_text="What a labeler must have accepted; none where empty.",
    )
    created_at = models.DateTimeField(auto_now_add=True)

    objects = ProjectQuerySet.as_manager()

    class Meta:
        constraints = [
            models.CheckConstraint(condition=Q(overlap__gte=1), name="project_overlap_is_positive"),
            models.CheckConstraint(
                condition=Q(test_share__gt=0, test_share__lt=1), name="project_test_share_is_a_share"
            ),
            models.CheckConstraint(
                condition=Q(max_overlap__isnull=True) | Q(max_overlap__gte=models.F("overlap")),
                name="project_max_overlap_reaches_overlap",
            ),
            models.CheckConstraint(
                condition=Q(repeat_share__gte=0, repeat_share__lte=0.5, gold_share__gte=0, gold_share__lte=0.5)
                & Q(review_share__gte=0, review_share__lte=1),
                name="project_quality_shares_are_shares",
            ),
            models.CheckConstraint(
                condition=Q(quiz_right__lte=models.F("quiz_items")), name="project_quiz_can_be_passed"
            ),
            models.CheckConstraint(
                condition=Q(cpu_hour_price__gte=0, gpu_hour_price__gte=0), name="project_hours_cost_nothing_or_more"
            ),
            models.CheckConstraint(
                condition=(Q(budget_device_hours__isnull=True) | Q(budget_device_hours__gte=0))
                & (Q(budget_money__isnull=True) | Q(budget_money__gte=0)),
                name="project_budgets_are_not_negative",
            ),
            models.CheckConstraint(
                condition=Q(minimum_seconds__gte=0, minimum_seconds__lte=120),
                name="project_minimum_seconds_is_bearable",
            ),
        ]

    def __str__(self):
        return self.name

    def lock(self) -> None:
        """Be the only one who locked it until the transaction ends; others can make rows that cite it meanwhile."""
        Project.objects.select_for_update(no_key=True).get(pk=self.pk)

    def look_again(self) -> None:
        """Once this is committed, nobody passes over a part of the queue because it held nothing for them before."""
        waiting = self.memberships.filter(passed_until__gt=Now())
        transaction.on_commit(lambda: waiting.update(passed_until=None))


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
    """What is asked of a labeler. definition: as labelapp.labeling.protocol.Protocol reads it."""

    project = models.ForeignKey(Project, models.CASCADE, related_name="protocol_versions")
    definition = models.JSONField()

    class Meta(NumberedText.Meta):
        constraints = [
            models.UniqueConstraint(fields=["project", "number"], name="protocol_number_is_unique_in_project")
        ]

    def __str__(self):
        return f"protocol v{self.number}"


class ConsentVersion(NumberedText):
    """What a labeler agrees to before any work: uses, publication, withdrawal; as markdown."""

    project = models.ForeignKey(Project, models.CASCADE, related_name="consent_versions")
    text = models.TextField()

    class Meta(NumberedText.Meta):
        constraints = [
            models.UniqueConstraint(fields=["project", "number"], name="consent_number_is_unique_in_project")
        ]

    def __str__(self):
        return f"consent v{self.number}"
