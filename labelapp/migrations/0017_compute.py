"""What rounds cost: prices and budgets of a project, estimates, and bookings that nobody can change."""

import datetime

import django.db.models.deletion
import django.db.models.functions.datetime
from django.conf import settings
from django.db import migrations, models

TRIGGER = (
    "CREATE TRIGGER append_only BEFORE UPDATE OR DELETE ON labelapp_booking "
    "FOR EACH ROW EXECUTE FUNCTION labelapp_refuse_change();"
)


class Migration(migrations.Migration):

    dependencies = [
        ('labelapp', '0016_notices'),
    ]

    operations = [
        migrations.CreateModel(
            name='Booking',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('device', models.CharField(help_text='"cpu", or the GPU\'s name.', max_length=120)),
                ('device_seconds', models.FloatField()),
                ('peak_bytes', models.BigIntegerField(blank=True, null=True)),
                ('hour_price', models.DecimalField(decimal_places=4, help_text='Of a device-hour, at that time.', max_digits=10)),
                ('money', models.DecimalField(decimal_places=4, max_digits=14)),
                ('currency', models.CharField(max_length=3)),
                ('created_at', models.DateTimeField(db_default=django.db.models.functions.datetime.Now())),
            ],
            options={
                'ordering': ['-pk'],
            },
        ),
        migrations.CreateModel(
            name='Estimate',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('plan', models.CharField(max_length=64)),
                ('stages', models.JSONField()),
                ('seed', models.PositiveIntegerField(default=0)),
                ('form', models.JSONField(blank=True, default=dict)),
                ('state', models.CharField(choices=[('waiting', 'Waiting'), ('running', 'Running'), ('done', 'Done'), ('failed', 'Failed')], default='waiting', max_length=7)),
                ('found', models.JSONField(blank=True, default=dict)),
                ('error', models.TextField(blank=True)),
                ('busy_until', models.DateTimeField(blank=True, null=True)),
                ('created_at', models.DateTimeField(auto_now_add=True)),
                ('finished_at', models.DateTimeField(blank=True, null=True)),
            ],
            options={
                'ordering': ['-pk'],
            },
        ),
        migrations.AddField(
            model_name='project',
            name='budget_device_hours',
            field=models.DecimalField(blank=True, decimal_places=2, help_text='Of a calendar month. Empty: no limit.', max_digits=10, null=True),
        ),
        migrations.AddField(
            model_name='project',
            name='budget_money',
            field=models.DecimalField(blank=True, decimal_places=2, help_text='Of a calendar month. Empty: no limit.', max_digits=12, null=True),
        ),
        migrations.AddField(
            model_name='project',
            name='cpu_hour_price',
            field=models.DecimalField(decimal_places=4, default=0, max_digits=10),
        ),
        migrations.AddField(
            model_name='project',
            name='gpu_hour_price',
            field=models.DecimalField(decimal_places=4, default=0, max_digits=10),
        ),
        migrations.AddField(
            model_name='round',
            name='device_time',
            field=models.DurationField(default=datetime.timedelta, help_text='How long workers held the round so far, every attempt of it, by their heartbeats.'),
        ),
        migrations.AddField(
            model_name='round',
            name='expected',
            field=models.JSONField(blank=True, help_text='What it was reckoned to take; see rounds.budget.', null=True),
        ),
        migrations.AddConstraint(
            model_name='project',
            constraint=models.CheckConstraint(condition=models.Q(('cpu_hour_price__gte', 0), ('gpu_hour_price__gte', 0)), name='project_hours_cost_nothing_or_more'),
        ),
        migrations.AddConstraint(
            model_name='project',
            constraint=models.CheckConstraint(condition=models.Q(models.Q(('budget_device_hours__isnull', True), ('budget_device_hours__gte', 0), _connector='OR'), models.Q(('budget_money__isnull', True), ('budget_money__gte', 0), _connector='OR')), name='project_budgets_are_not_negative'),
        ),
        migrations.AddField(
            model_name='booking',
            name='project',
            field=models.ForeignKey(on_delete=django.db.models.deletion.PROTECT, related_name='bookings', to='labelapp.project'),
        ),
        migrations.AddField(
            model_name='booking',
            name='round',
            field=models.OneToOneField(blank=True, null=True, on_delete=django.db.models.deletion.PROTECT, related_name='booking', to='labelapp.round'),
        ),
        migrations.AddField(
            model_name='estimate',
            name='created_by',
            field=models.ForeignKey(blank=True, null=True, on_delete=django.db.models.deletion.PROTECT, related_name='+', to=settings.AUTH_USER_MODEL),
        ),
        migrations.AddField(
            model_name='estimate',
            name='parent',
            field=models.ForeignKey(on_delete=django.db.models.deletion.PROTECT, related_name='+', to='labelapp.version'),
        ),
        migrations.AddField(
            model_name='estimate',
            name='project',
            field=models.ForeignKey(on_delete=django.db.models.deletion.PROTECT, related_name='estimates', to='labelapp.project'),
        ),
        migrations.AddField(
            model_name='estimate',
            name='snapshot',
            field=models.ForeignKey(on_delete=django.db.models.deletion.PROTECT, related_name='+', to='labelapp.snapshot'),
        ),
        migrations.AddField(
            model_name='booking',
            name='estimate',
            field=models.OneToOneField(blank=True, null=True, on_delete=django.db.models.deletion.PROTECT, related_name='booking', to='labelapp.estimate'),
        ),
        migrations.AddIndex(
            model_name='estimate',
            index=models.Index(fields=['project', 'plan'], name='estimate_by_plan'),
        ),
        migrations.AddConstraint(
            model_name='estimate',
            constraint=models.CheckConstraint(condition=models.Q(models.Q(('state', 'running'), _negated=True), ('busy_until__isnull', False), _connector='OR'), name='running_estimate_says_until_when'),
        ),
        migrations.AddConstraint(
            model_name='booking',
            constraint=models.CheckConstraint(condition=models.Q(models.Q(('estimate__isnull', True), ('round__isnull', False)), models.Q(('estimate__isnull', False), ('round__isnull', True)), _connector='OR'), name='booking_is_of_a_round_or_a_dry_run'),
        ),
        migrations.AddConstraint(
            model_name='booking',
            constraint=models.CheckConstraint(condition=models.Q(('device_seconds__gte', 0), ('hour_price__gte', 0), ('money__gte', 0)), name='bookings_are_not_negative'),
        ),
        migrations.RunSQL(TRIGGER, "DROP TRIGGER append_only ON labelapp_booking;"),
    ]
