"""Which judgments a snapshot holds, and where they came from. Derived from its files when it is frozen; append-only."""

from django.contrib.postgres.fields import ArrayField
from django.db import models
from django.db.models import F, Q

from labelapp.models.comparisons import Comparison
from labelapp.models.snapshots import Snapshot


class SnapshotSpan(models.Model):
    """A run of judgment ids, each of which the snapshot holds: far fewer rows than a row a judgment."""

    snapshot = models.ForeignKey(Snapshot, models.PROTECT, related_name="spans")
    first = models.BigIntegerField()
    last = models.BigIntegerField()

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["snapshot", "first"], name="span_begins_once_in_snapshot"),
            models.CheckConstraint(condition=Q(last__gte=F("first")), name="span_ends_after_it_begins"),
        ]
        ordering = ["first"]


class SnapshotSource(models.Model):
    """The snapshot's judgments of one kind: how their comparisons came up, and which versions wrote the answers."""

    snapshot = models.ForeignKey(Snapshot, models.PROTECT, related_name="sources")
    origin = models.CharField(max_length=8, choices=Comparison.Origin)
    round = models.ForeignKey(
        "labelapp.Round", models.PROTECT, null=True, blank=True, related_name="sources",
        help_text="The sampling round that made the comparisons.",
    )
    versions = ArrayField(models.BigIntegerField(), help_text="Keys of the versions that wrote answers, in order.")
    comparisons = models.PositiveIntegerField()
    judgments = models.PositiveIntegerField()

    class Meta:
        constraints = [
            models.UniqueConstraint(
                fields=["snapshot", "origin", "round", "versions"],
                nulls_distinct=False,
                name="source_once_per_snapshot",
            ),
        ]
        ordering = ["pk"]
