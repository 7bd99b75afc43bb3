"""Recipes that a project keeps: save from the form, save again as the next version, clone."""

from copy import deepcopy
from typing import Any, NamedTuple

from django.db import IntegrityError, transaction
from django.db.models import Prefetch

from labelapp.models import Project, Recipe, RecipeVersion, Round, User
from labelapp.rounds.presets import PRESETS
from labelapp.rounds.recipes import check, plan_stages

LONGEST_NAME, LONGEST_NOTE = 80, 500


class RecipeRefused(ValueError):
    """The recipe cannot be saved under this name. The message is a sentence."""


class Plan(NamedTuple):
    """What a round will do: the specs, where they come from, and the saved version that they are, if any."""

    preset: str
    title: str
    stages: list[dict[str, Any]]
    changes: dict[str, Any]
    mitigation: bool
    version: RecipeVersion | None = None


def plan_preset(preset: str, *, mitigation: bool = False, changes: dict[str, Any] | None = None) -> Plan:
    """A preset with a person's changes. Raises OptionRefused."""
    stages = plan_stages(preset, mitigation=mitigation, changes=changes)
    return Plan(preset, PRESETS[preset].title, stages, changes or {}, mitigation)


def plan_saved(version: RecipeVersion) -> Plan:
    """The very stages of a saved version. Raises OptionRefused where today's trainer no longer takes them."""
    stages = deepcopy(version.stages)
    for spec in stages:
        check(spec, version.changes)
    title = f"{version.recipe.name} v{version.number}"
    return Plan(version.preset, title, stages, version.changes, version.mitigation, version)


def is_unchanged(saved: RecipeVersion, preset: str, mitigation: bool, changes: dict[str, Any]) -> bool:
    """Whether these settings are the saved ones, however they are written. Raises OptionRefused."""
    if (saved.preset, saved.mitigation) != (preset, mitigation):
        return False
    return saved.changes == changes or saved.stages == plan_stages(preset, mitigation=mitigation, changes=changes)


@transaction.atomic
def save_recipe(
    *,
    project: Project,
    name: str,
    preset: str,
    by: User,
    mitigation: bool = False,
    changes: dict[str, Any] | None = None,
    note: str = "",
) -> tuple[RecipeVersion, bool]:
    """(version, whether it is new): the next version of the recipe of this name, which is made where there is none.

    Refuses with RecipeRefused or OptionRefused. What equals the newest version is not stored again.
    """
    name = named(name)
    if len(note) > LONGEST_NOTE:
        raise RecipeRefused(f"The note has {len(note)} characters; at most {LONGEST_NOTE} are kept.")
    stages = plan_stages(preset, mitigation=mitigation, changes=changes)
    project.lock()  # one number after the other
    recipe, _ = Recipe.objects.get_or_create(project=project, name=name)
    newest = recipe.versions.first()
    if newest and (newest.preset, newest.mitigation, newest.stages) == (preset, mitigation, stages):
        return newest, False
    made = recipe.versions.create(
        number=newest.number + 1 if newest else 1, preset=preset, mitigation=mitigation, changes=changes or {},
        stages=stages, note=note, author=by,
    )  # fmt: skip
    return made, True


def clone_recipe(*, version: RecipeVersion, name: str, by: User) -> RecipeVersion:
    """A recipe of its own that begins with this version. Refuses with RecipeRefused where the name is taken."""
    name = named(name)
    try:
        with transaction.atomic():
            recipe = Recipe.objects.create(project=version.recipe.project, name=name)
            return recipe.versions.create(
                number=1, preset=version.preset, mitigation=version.mitigation, changes=version.changes,
                stages=version.stages, note=f"Cloned from {version}.", author=by,
            )  # fmt: skip
    except IntegrityError as error:
        raise RecipeRefused(f"There is a recipe called {name!r} already: choose another name.") from error


def named(name: str) -> str:
    """The name without needless space. Raises RecipeRefused."""
    name = " ".join(name.split())
    if not name:
        raise RecipeRefused("Give the recipe a name.")
    if len(name) > LONGEST_NAME:
        raise RecipeRefused(f"The name has {len(name)} characters; at most {LONGEST_NAME} are kept.")
    return name


def recipes_of(project: Project) -> list[Recipe]:
    """With their versions, newest first, and what ran them, in three queries."""
    rounds = Prefetch("rounds", Round.objects.order_by("-number"))
    versions = RecipeVersion.objects.select_related("author", "recipe").prefetch_related(rounds)
    return list(project.recipes.prefetch_related(Prefetch("versions", versions)))


def versions_of(project: Project):
    """Every saved version of the project, for a form to choose from."""
    return RecipeVersion.objects.filter(recipe__project=project).select_related("recipe").order_by(
        "recipe__name", "-number"
    )


def latest_round(version: RecipeVersion) -> Round | None:
    """The newest round that ran this version to its end."""
    return version.rounds.filter(state=Round.State.DONE).first()


