"""What is counted in the background, and changes of many comparisons at once."""

import django.db.models.deletion
from django.conf import settings
from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ("labelapp", "0006_gold_index"),
    ]

    operations = [
        migrations.CreateModel(
            name='BulkChange',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('picked', models.JSONField(help_text='The filter, or the ids of the comparisons.')),
                ('order', models.JSONField(help_text='What is changed, to what.')),
                ('expected', models.IntegerField(help_text='How many comparisons were confirmed.')),
                ('state', models.CharField(choices=[('waiting', 'Waiting'), ('running', 'Running'), ('done', 'Done'), ('refused', 'Refused'), ('failed', 'Failed')], default='waiting', max_length=8)),
                ('outcome', models.TextField(blank=True, help_text='What was done, or why not, in a sentence.')),
                ('created_at', models.DateTimeField(auto_now_add=True)),
                ('ended_at', models.DateTimeField(blank=True, null=True)),
                ('by', models.ForeignKey(on_delete=django.db.models.deletion.PROTECT, related_name='+', to=settings.AUTH_USER_MODEL)),
                ('project', models.ForeignKey(on_delete=django.db.models.deletion.CASCADE, related_name='bulk_changes', to='labelapp.project')),
            ],
            options={
                'ordering': ['-pk'],
            },
        ),
        migrations.CreateModel(
            name='ProjectCounts',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('figures', models.JSONField(default=dict)),
                ('count_seconds', models.FloatField(default=0)),
                ('counted_at', models.DateTimeField()),
                ('project', models.OneToOneField(on_delete=django.db.models.deletion.CASCADE, related_name='counts', to='labelapp.project')),
            ],
        ),
        migrations.CreateModel(
            name='LabelerPace',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('seconds_today', models.FloatField(blank=True, null=True)),
                ('seconds_week', models.FloatField(blank=True, null=True)),
                ('last_judged_at', models.DateTimeField(blank=True, null=True)),
                ('labeler', models.ForeignKey(on_delete=django.db.models.deletion.CASCADE, related_name='paces', to=settings.AUTH_USER_MODEL)),
                ('project', models.ForeignKey(on_delete=django.db.models.deletion.CASCADE, related_name='paces', to='labelapp.project')),
            ],
            options={
                'constraints': [models.UniqueConstraint(fields=('project', 'labeler'), name='one_pace_per_project_and_labeler')],
            },
        ),
        migrations.CreateModel(
            name='QueueHealth',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('open', models.IntegerField(default=0, help_text='Places free for anybody.')),
                ('leased', models.IntegerField(default=0)),
                ('lapsed', models.IntegerField(default=0, help_text='Leases that ran out; the next claim takes them.')),
                ('reserved', models.IntegerField(default=0, help_text='Places that wait for one person.')),
                ('done', models.IntegerField(default=0, help_text='Of a batch.')),
                ('oldest_open_at', models.DateTimeField(blank=True, null=True)),
                ('oldest_slot', models.BigIntegerField(default=0, help_text='Where to look for the oldest open place next time.')),
                ('skips', models.JSONField(default=dict, help_text='{reasons: {reason: count}, many: [[comparison, people]]}')),
                ('mark', models.CharField(blank=True, help_text='Differs once there is something new to count.', max_length=80)),
                ('counted_at', models.DateTimeField(blank=True, null=True)),
                ('count_seconds', models.FloatField(default=0)),
                ('checked_at', models.DateTimeField(blank=True, help_text='When somebody last looked whether to count.', null=True)),
                ('batch', models.ForeignKey(blank=True, null=True, on_delete=django.db.models.deletion.CASCADE, related_name='queue_health', to='labelapp.batch')),
                ('project', models.ForeignKey(on_delete=django.db.models.deletion.CASCADE, related_name='queue_health', to='labelapp.project')),
            ],
            options={
                'constraints': [models.UniqueConstraint(fields=('project', 'batch'), name='one_queue_health_per_project_and_batch', nulls_distinct=False)],
            },
        ),
        migrations.CreateModel(
            name='WorkHour',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('hour', models.DateTimeField()),
                ('judged', models.IntegerField(default=0)),
                ('project', models.ForeignKey(on_delete=django.db.models.deletion.CASCADE, related_name='work_hours', to='labelapp.project')),
            ],
            options={
                'constraints': [models.UniqueConstraint(fields=('project', 'hour'), name='one_work_hour_per_project')],
            },
        ),
    ]
