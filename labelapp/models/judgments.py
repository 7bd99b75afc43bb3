"""What people answered. Rows are never edited or deleted: the database refuses it."""

from django.conf import settings
from django.contrib.postgres.fields import ArrayField
from django.db import models
from django.db.models import Q
from django.utils.translation import gettext_lazy as _

from labelapp.models.comparisons import Comparison, Slot
from labelapp.models.projects import GuidelineVersion, ProtocolVersion


class JudgmentQuerySet(models.QuerySet):
    def standing(self):
        """Judgments that nothing has replaced and nobody has withdrawn."""
        return self.filter(replaced_by__isnull=True, withdrawn=False)


class Judgment(models.Model):
    """One person's answer to one comparison.

    ranking: tiers of positions, best first, such as [[1], [0]]; a tie of all is one tier; null when both are bad, and
    where only ratings or a text were asked for. unrankable: positions outside the ranking.
    strength: for a pair, -4..4; negative favours position 0, positive position 1, 0 is the tie; null where an import
    knows only the order. A revision points at the judgment it replaces; a withdrawal is a revision with no answer.
    ratings, safety, seen: by position, such as {"helpfulness": [4, 2]}, ["safe", "unsafe"], [1.0, 0.8].
    """

    comparison = models.ForeignKey(Comparison, models.PROTECT, related_name="judgments")
    slot = models.ForeignKey(Slot, models.PROTECT, null=True, blank=True, related_name="judgments")
    labeler = models.ForeignKey(
        settings.AUTH_USER_MODEL, models.PROTECT, null=True, blank=True, related_name="judgments"
    )
    external_annotator = models.CharField(
        max_length=100, blank=True, help_text="Pseudonym of an annotator who has no account here."
    )
    submission_id = models.UUIDField(unique=True, help_text="Made by the client: a replay finds the stored row.")
    body_hash = models.CharField(max_length=64, help_text="SHA-256 of the answer: a replay must not change it.")
    strength = models.SmallIntegerField(null=True, blank=True)
    ranking = models.JSONField(null=True, blank=True)
    both_bad = models.BooleanField(default=False)
    withdrawn = models.BooleanField(default=False)
    surplus = models.BooleanField(default=False, help_text="Arrived after the slot was handed to somebody else.")
    unrankable = ArrayField(models.PositiveSmallIntegerField(), default=list, db_default=[], blank=True)
    ratings = models.JSONField(default=dict, db_default={}, blank=True, help_text="Per criterion, then per position.")
    safety = models.JSONField(default=list, db_default=[], blank=True, help_text="Per position: safe or unsafe.")
    spans = models.JSONField(
        default=list, db_default=[], blank=True, help_text="{position, start, end, quote, reason}; code points."
    )
    reasons = ArrayField(models.CharField(max_length=60), default=list, db_default=[], blank=True)
    rationale = models.TextField(blank=True, db_default="")
    rewrite = models.TextField(blank=True, db_default="", help_text="An answer the labeler wrote.")
    rewrite_of = models.PositiveSmallIntegerField(null=True, blank=True, help_text="The position it improves.")
    display_order = ArrayField(models.PositiveSmallIntegerField(), default=list, blank=True)
    guideline = models.ForeignKey(GuidelineVersion, models.PROTECT, null=True, blank=True)
    protocol = models.ForeignKey(ProtocolVersion, models.PROTECT)
    consent = models.ForeignKey("labelapp.Consent", models.PROTECT, null=True, blank=True, related_name="judgments")
    active_seconds = models.FloatField(null=True, blank=True)
    seen = ArrayField(
        models.FloatField(), default=list, db_default=[], blank=True,
        help_text="Share of each completion that was on screen, by position, 0 to 1.",
    )
    implied_by = models.ForeignKey(
        "self", models.PROTECT, null=True, blank=True, related_name="implies",
        help_text="Of a pair made from a rewrite: the judgment that the rewrite belongs to.",
    )
    replaces = models.OneToOneField(
        "self", models.PROTECT, null=True, blank=True, related_name="replaced_by"
    )
    created_at = models.DateTimeField(auto_now_add=True)

    objects = JudgmentQuerySet.as_manager()

    class Meta:
        constraints = [
            models.CheckConstraint(
                condition=Q(labeler__isnull=False, external_annotator="")
                | (Q(labeler__isnull=True) & ~Q(external_annotator="")),
                name="judgment_has_one_author",
            ),
            models.CheckConstraint(
                condition=Q(strength__isnull=True) | Q(strength__gte=-4, strength__lte=4),
                name="judgment_strength_is_in_range",
            ),
            models.CheckConstraint(
                condition=Q(withdrawn=True, ranking__isnull=True, strength__isnull=True, both_bad=False)
                | Q(withdrawn=False, both_bad=True, ranking__isnull=True, strength__isnull=True)
                | Q(withdrawn=False, both_bad=False, ranking__isnull=False)
                | Q(withdrawn=False, both_bad=False, ranking__isnull=True, strength__isnull=True)
                & (~Q(ratings={}) | ~Q(safety=[]) | ~Q(rewrite="")),
                name="judgment_says_exactly_one_thing",
            ),
            models.CheckConstraint(
                condition=Q(withdrawn=False) | Q(replaces__isnull=False), name="withdrawal_replaces_something"
            ),
            models.UniqueConstraint(
                fields=["comparison", "labeler"],
                condition=Q(replaces__isnull=True, surplus=False, labeler__isnull=False),
                name="one_first_judgment_per_labeler",
            ),
            models.UniqueConstraint(
                fields=["comparison", "external_annotator"],
                condition=Q(replaces__isnull=True) & ~Q(external_annotator=""),
                name="one_first_judgment_per_annotator",
            ),
        ]
        indexes = [models.Index(fields=["labeler", "-created_at"], name="judgment_labeler_latest")]

    def __str__(self):
        return f"judgment {self.pk}"

    @property
    def annotator(self) -> str:
        """Who judged, as exports name them: a pseudonym, never a login."""
        return self.external_annotator or f"labeler-{self.labeler_id}"


class Review(models.Model):
    """A reviewer's word on one judgment: at most one, and never edited."""

    class Verdict(models.TextChoices):
        ACCEPTED = "accepted", _("Accepted")
        CORRECTED = "corrected", _("corrected by a revision")
        RETURNED = "returned", _("returned to the labeler")

    judgment = models.OneToOneField(Judgment, models.PROTECT, related_name="review")
    reviewer = models.ForeignKey(settings.AUTH_USER_MODEL, models.PROTECT, related_name="reviews")
    verdict = models.CharField(max_length=9, choices=Verdict)
    comment = models.TextField(blank=True)
    correction = models.OneToOneField(
        Judgment, models.PROTECT, null=True, blank=True, related_name="correction_of"
    )
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        constraints = [
            models.CheckConstraint(
                condition=Q(verdict="corrected", correction__isnull=False)
                | Q(verdict__in=["accepted", "returned"], correction__isnull=True),
                name="review_correction_fits_its_verdict",
            )
        ]
