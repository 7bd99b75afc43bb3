"""A change of many comparisons is ordered once; how well each labeler answers what is known or repeated."""

import uuid

from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("labelapp", "0007_counts")]

    operations = [
        migrations.AddField(
            "bulkchange",
            "submission_id",
            models.UUIDField(unique=True, default=uuid.uuid4, help_text="A second click finds the first's row."),
            preserve_default=False,
        ),
        migrations.AlterField(
            "bulkchange",
            "state",
            models.CharField(
                choices=[("waiting", "Waiting"), ("done", "Done"), ("refused", "Refused"), ("failed", "Failed")],
                default="waiting",
                max_length=8,
            ),
        ),
        *[
            migrations.AddField("labelerpace", name, models.IntegerField(default=0, db_default=0, help_text=about))
            for name, about in [
                ("repeats", "Swapped repeats answered,"),
                ("repeats_same", "and of them like the first time."),
                ("gold", "Known answers asked for,"),
                ("gold_right", "and found."),
            ]
        ],
        migrations.AddField(
            "labelerpace",
            "checked_at",
            models.DateTimeField(null=True, blank=True, help_text="When these four were counted."),
        ),
    ]
