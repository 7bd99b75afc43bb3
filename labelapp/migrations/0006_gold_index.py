"""Gold is found without looking at every comparison of the project."""

from django.db import migrations, models
from django.db.models import Q


class Migration(migrations.Migration):
    dependencies = [("labelapp", "0005_workbench_rules")]

    operations = [
        migrations.AlterField(
            "comparison",
            "gold",
            models.JSONField(
                blank=True, null=True, help_text='The known answer: a ranking, or {"both_bad": true}.'
            ),
        ),
        migrations.AddIndex(
            "comparison",
            models.Index(fields=["project"], condition=Q(gold__isnull=False), name="comparison_with_gold"),
        ),
    ]
