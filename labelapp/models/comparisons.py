"""What is to be judged, and the places in which it is judged."""

from django.conf import settings
from django.contrib.postgres.fields import ArrayField
from django.db import models
from django.db.models import Q
from django.utils.translation import gettext_lazy as _

from labelapp.models.projects import Project, ProtocolVersion
from labelapp.models.prompts import Completion, Prompt, text_hash


class Batch(models.Model):
    """Comparisons that belong together in time: one priority, one deadline."""

    project = models.ForeignKey(Project, models.CASCADE, related_name="batches")
    name = models.CharField(max_length=120)
    priority = models.IntegerField(default=0, help_text="Lower is handed out first.")
    deadline = models.DateTimeField(null=True, blank=True)
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        constraints = [models.UniqueConstraint(fields=["project", "name"], name="batch_name_is_unique_in_project")]

    def __str__(self):
        return self.name


class Comparison(models.Model):
    """A prompt and up to 9 of its completions, to be judged by `overlap` different people.

    A preference needs 2 completions at least, ratings 1, a demonstration none: there the labeler writes the answer.
    """

    class Origin(models.TextChoices):
        IMPORT = "import"
        RANDOM = "random", "random arm"
        ACTIVE = "active", "active arm"
        GOLD = "gold"
        SWAPPED = "swapped", "swapped repeat"
        REWRITE = "rewrite", "rewrite beside what it improves"
        CHAT = "chat", "live chat"
        TRIAL = "trial", "blind comparison of versions"

    project = models.ForeignKey(Project, models.CASCADE, related_name="comparisons")
    prompt = models.ForeignKey(Prompt, models.PROTECT, related_name="comparisons")
    protocol = models.ForeignKey(ProtocolVersion, models.PROTECT, related_name="comparisons")
    completions = models.ManyToManyField(Completion, through="ComparisonCompletion", related_name="comparisons")
    overlap = models.PositiveSmallIntegerField(default=1)
    origin = models.CharField(max_length=8, choices=Origin, default=Origin.RANDOM)
    propensity = models.FloatField(null=True, blank=True, help_text="Probability with which it was sampled.")
    batch = models.ForeignKey(Batch, models.PROTECT, null=True, blank=True, related_name="comparisons")
    requires = ArrayField(
        models.CharField(max_length=40), default=list, blank=True, help_text="Tags a labeler must have."
    )
    gold = models.JSONField(null=True, blank=True, help_text='The known answer: a ranking, or {"both_bad": true}.')
    explanation = models.TextField(blank=True, help_text="Why the known answer is right; shown after it was given.")
    repeats = models.ForeignKey(
        "self", models.PROTECT, null=True, blank=True, related_name="repeated_as",
        help_text="Of a swapped repeat: the comparison that it shows the other way round.",
    )
    round = models.ForeignKey(
        "labelapp.Round", models.PROTECT, null=True, blank=True, related_name="comparisons",
        help_text="The sampling round that made it.",
    )
    content_hash = models.CharField(max_length=64, help_text="SHA-256 of prompt and completion hashes, in order.")
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        constraints = [
            models.UniqueConstraint(
                fields=["project", "content_hash"], name="comparison_is_unique_in_project"
            ),
        ]
        indexes = [
            models.Index(fields=["project", "origin"], name="comparison_project_origin"),
            models.Index(fields=["project"], condition=Q(gold__isnull=False), name="comparison_with_gold"),
            models.Index(fields=["batch"], condition=Q(batch__isnull=False), name="comparison_of_batch"),
        ]

    def __str__(self):
        return f"comparison {self.pk}"

    @staticmethod
    def hash_of(prompt: Prompt, completions: list[Completion]) -> str:
        """SHA-256 over the prompt's hash and the completions' hashes in their order."""
        return text_hash("\n".join([prompt.content_hash, *(c.content_hash for c in completions)]))

    def ordered_completions(self) -> list[Completion]:
        """Completions by position; a judgment's ranking and strength refer to these indices."""
        rows = self.comparisoncompletion_set.select_related("completion").order_by("position")
        return [row.completion for row in rows]


class ComparisonCompletion(models.Model):
    """A completion's fixed position in its comparison. What a labeler sees is the slot's display order."""

    comparison = models.ForeignKey(Comparison, models.CASCADE)
    completion = models.ForeignKey(Completion, models.PROTECT)
    position = models.PositiveSmallIntegerField(help_text="0 to 8.")

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["comparison", "position"], name="one_completion_per_position"),
            models.UniqueConstraint(fields=["comparison", "completion"], name="completion_once_per_comparison"),
            models.CheckConstraint(condition=Q(position__lte=8), name="comparison_has_at_most_nine"),
        ]


class SlotQuerySet(models.QuerySet):
    def leave(self, state: str) -> int:
        """Take these slots from whoever holds them, into a state in which nobody does; how many."""
        return self.update(state=state, labeler=None, lease_until=None, claim_token=None)


class Slot(models.Model):
    """One of the places to judge a comparison. Claimed by one statement; a lease of minutes, kept by a heartbeat.

    A reserved slot waits for one person, who has seen the comparison or must see it: swapped repeats, gold, the quiz,
    and what a reviewer returned or an admin asks again.
    """

    class State(models.TextChoices):
        OPEN = "open"
        LEASED = "leased"
        DONE = "done"
        CLOSED = "closed", "closed by an admin"

    class Purpose(models.TextChoices):
        WORK = "", "work"
        REPEAT = "repeat", "swapped repeat"
        GOLD = "gold"
        QUIZ = "quiz"
        REASK = "reask", "asked again"
        RETURNED = "returned", "returned by a reviewer"

    comparison = models.ForeignKey(Comparison, models.CASCADE, related_name="slots")
    project = models.ForeignKey(Project, models.CASCADE, related_name="slots")
    number = models.PositiveSmallIntegerField(help_text="0 up to the overlap.")
    priority = models.IntegerField(default=0, help_text="Lower is handed out first.")
    shuffle_key = models.IntegerField(help_text="Random order within a priority.")
    state = models.CharField(max_length=6, choices=State, default=State.OPEN)
    labeler = models.ForeignKey(
        settings.AUTH_USER_MODEL, models.PROTECT, null=True, blank=True, related_name="slots"
    )
    lease_until = models.DateTimeField(null=True, blank=True)
    claim_token = models.UUIDField(null=True, blank=True, default=None)
    display_order = ArrayField(
        models.PositiveSmallIntegerField(), default=list, blank=True,
        help_text="Positions in the order they are shown, counter-balanced.",
    )
    requires = ArrayField(models.CharField(max_length=40), default=list, blank=True, help_text="The comparison's.")
    purpose = models.CharField(max_length=8, choices=Purpose, default=Purpose.WORK, blank=True)
    reserved_for = models.ForeignKey(
        settings.AUTH_USER_MODEL, models.CASCADE, null=True, blank=True, related_name="reserved_slots"
    )
    not_before = models.DateTimeField(null=True, blank=True, help_text="A reserved slot is due then,")
    after_judged = models.IntegerField(null=True, blank=True, help_text="or once its labeler has judged so many.")
    note = models.TextField(blank=True, help_text="Why it comes again, in the words of whoever sent it back.")

    objects = SlotQuerySet.as_manager()

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["comparison", "number"], name="slot_number_is_unique_in_comparison"),
            models.UniqueConstraint(
                fields=["comparison", "labeler"],
                condition=Q(state__in=["leased", "done"]),
                name="one_slot_per_labeler_and_comparison",
            ),
            models.CheckConstraint(
                condition=Q(state="open", labeler__isnull=True, lease_until__isnull=True, claim_token__isnull=True)
                | Q(state="leased", labeler__isnull=False, lease_until__isnull=False, claim_token__isnull=False)
                | Q(state="done", labeler__isnull=False, lease_until__isnull=True)
                | Q(state="closed", labeler__isnull=True, lease_until__isnull=True, claim_token__isnull=True),
                name="slot_state_fits_its_lease",
            ),
            models.CheckConstraint(
                condition=Q(purpose="") | Q(reserved_for__isnull=False), name="slot_purpose_names_its_labeler"
            ),
        ]
        indexes = [
            # The claim orders by columns that only this partial index has, so the planner cannot walk the primary key.
            models.Index(
                fields=["project", "priority", "shuffle_key"],
                condition=Q(state__in=["open", "leased"], reserved_for__isnull=True),
                name="slot_queue",
            ),
            models.Index(
                fields=["reserved_for", "project"],
                condition=Q(state__in=["open", "leased"], reserved_for__isnull=False),
                name="slot_reserved",
            ),
            models.Index(fields=["labeler", "state"], name="slot_labeler_state"),
        ]

    def __str__(self):
        return f"slot {self.number} of comparison {self.comparison_id}"


class Skip(models.Model):
    """A labeler's no to an item, and why. The item is not handed to them again."""

    class Reason(models.TextChoices):
        UNSURE = "unsure", _("I cannot decide")
        UNCLEAR = "unclear", _("The prompt is unclear")
        LANGUAGE = "language", _("I do not speak the language well enough")
        EXPERTISE = "expertise", _("I lack the knowledge")
        UPSETTING = "upsetting", _("I would rather not read this")
        BROKEN = "broken", _("Something is shown wrongly")
        OTHER = "other", _("Something else")

    comparison = models.ForeignKey(Comparison, models.PROTECT, related_name="skips")
    project = models.ForeignKey(Project, models.PROTECT, related_name="skips")
    labeler = models.ForeignKey(settings.AUTH_USER_MODEL, models.PROTECT, related_name="skips")
    reason = models.CharField(max_length=10, choices=Reason)
    comment = models.TextField(blank=True)
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        indexes = [
            models.Index(fields=["comparison", "labeler"], name="skip_comparison_labeler"),
            models.Index(fields=["project", "-created_at"], name="skip_project_latest"),
        ]


class Draft(models.Model):
    """An answer that is not given yet. `revision` grows with every change; an older one never overwrites a newer."""

    comparison = models.ForeignKey(Comparison, models.CASCADE, related_name="drafts")
    labeler = models.ForeignKey(settings.AUTH_USER_MODEL, models.CASCADE, related_name="drafts")
    revision = models.BigIntegerField()
    body = models.JSONField()
    updated_at = models.DateTimeField(auto_now=True)

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["comparison", "labeler"], name="one_draft_per_labeler_and_comparison")
        ]
