"""Recipes that a project keeps: named, in versions that never change."""

from django.conf import settings
from django.db import models
from django.db.models import Q

from labelapp.models.projects import Project


class Recipe(models.Model):
    """A name under which a project keeps versions of what a round does."""

    project = models.ForeignKey(Project, models.PROTECT, related_name="recipes")
    name = models.CharField(max_length=80)
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["project", "name"], name="recipe_name_is_unique_in_project"),
            models.CheckConstraint(condition=~Q(name=""), name="recipe_has_a_name"),
        ]
        ordering = ["name"]

    def __str__(self):
        return self.name


class RecipeVersion(models.Model):
    """One version of a recipe. Append-only: a change is the next number.

    changes: what differs from the preset, {"preference.beta": 0.2}, for the form. stages: the planned specs, which a
    round runs as they stand here, whatever becomes of the preset.
    """

    recipe = models.ForeignKey(Recipe, models.PROTECT, related_name="versions")
    number = models.PositiveIntegerField()
    preset = models.CharField(max_length=40)
    mitigation = models.BooleanField(default=False)
    changes = models.JSONField(default=dict, blank=True)
    stages = models.JSONField()
    note = models.CharField(max_length=500, blank=True)
    author = models.ForeignKey(settings.AUTH_USER_MODEL, models.PROTECT, related_name="+")
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["recipe", "number"], name="recipe_version_number_is_unique_in_recipe"),
            models.CheckConstraint(condition=Q(number__gte=1), name="recipe_versions_start_at_one"),
        ]
        ordering = ["-number"]

    def __str__(self):
        return f"{self.recipe.name}, version {self.number}"
