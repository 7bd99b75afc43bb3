"""Somebody for whom a long queue holds nothing does not have it walked over and over."""

from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("labelapp", "0009_live_chat")]

    operations = [
        migrations.AddField(
            "membership",
            "passed_until",
            models.DateTimeField(blank=True, help_text="Until then the queue is not looked through", null=True),
        ),
        migrations.AddField(
            "membership",
            "passed_below",
            models.BigIntegerField(blank=True, help_text="below this priority: it held nothing.", null=True),
        ),
    ]
