"""Saved recipes, whose versions nobody can change, and the rounds and schedules that name them."""

import django.db.models.deletion
from django.conf import settings
from django.db import migrations, models

TRIGGER = (
    "CREATE TRIGGER append_only BEFORE UPDATE OR DELETE ON labelapp_recipeversion "
    "FOR EACH ROW EXECUTE FUNCTION labelapp_refuse_change();"
)


class Migration(migrations.Migration):

    dependencies = [
        ('labelapp', '0012_snapshot_index'),
    ]

    operations = [
        migrations.CreateModel(
            name='Recipe',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('name', models.CharField(max_length=80)),
                ('created_at', models.DateTimeField(auto_now_add=True)),
                ('project', models.ForeignKey(on_delete=django.db.models.deletion.PROTECT, related_name='recipes', to='labelapp.project')),
            ],
            options={
                'ordering': ['name'],
            },
        ),
        migrations.CreateModel(
            name='RecipeVersion',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('number', models.PositiveIntegerField()),
                ('preset', models.CharField(max_length=40)),
                ('mitigation', models.BooleanField(default=False)),
                ('changes', models.JSONField(blank=True, default=dict)),
                ('stages', models.JSONField()),
                ('note', models.CharField(blank=True, max_length=500)),
                ('created_at', models.DateTimeField(auto_now_add=True)),
                ('author', models.ForeignKey(on_delete=django.db.models.deletion.PROTECT, related_name='+', to=settings.AUTH_USER_MODEL)),
                ('recipe', models.ForeignKey(on_delete=django.db.models.deletion.PROTECT, related_name='versions', to='labelapp.recipe')),
            ],
            options={
                'ordering': ['-number'],
            },
        ),
        migrations.AddField(
            model_name='round',
            name='recipe_version',
            field=models.ForeignKey(blank=True, help_text="The saved recipe that runs unchanged; none where the form's own settings do.", null=True, on_delete=django.db.models.deletion.PROTECT, related_name='rounds', to='labelapp.recipeversion'),
        ),
        migrations.AddField(
            model_name='schedule',
            name='recipe_version',
            field=models.ForeignKey(blank=True, help_text='A saved recipe, which goes before the fields `recipe`, `mitigation` and `further`.', null=True, on_delete=django.db.models.deletion.PROTECT, related_name='+', to='labelapp.recipeversion'),
        ),
        migrations.AddConstraint(
            model_name='recipe',
            constraint=models.UniqueConstraint(fields=('project', 'name'), name='recipe_name_is_unique_in_project'),
        ),
        migrations.AddConstraint(
            model_name='recipe',
            constraint=models.CheckConstraint(condition=models.Q(('name', ''), _negated=True), name='recipe_has_a_name'),
        ),
        migrations.AddConstraint(
            model_name='recipeversion',
            constraint=models.UniqueConstraint(fields=('recipe', 'number'), name='recipe_version_number_is_unique_in_recipe'),
        ),
        migrations.AddConstraint(
            model_name='recipeversion',
            constraint=models.CheckConstraint(condition=models.Q(('number__gte', 1)), name='recipe_versions_start_at_one'),
        ),
        migrations.RunSQL(TRIGGER, "DROP TRIGGER append_only ON labelapp_recipeversion;"),
    ]
