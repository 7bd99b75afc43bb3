"""The pages of the saved recipes: the list with every version, clone, and rounds side by side."""

from django.contrib import messages
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect
from django.template.response import TemplateResponse
from django.views.decorators.http import require_GET, require_POST

from labelapp.accounts.permissions import project_page
from labelapp.models import Project, RecipeVersion, Round
from labelapp.rounds import beside
from labelapp.rounds.config_diff import differences
from labelapp.rounds.presets import PRESETS
from labelapp.rounds.saved import RecipeRefused, clone_recipe, latest_round, recipes_of

MOST = 4  # lines in one plot that can still be told apart
CHOICES = 100


@require_GET
@project_page("research")
def recipes(request: HttpRequest, project: Project) -> HttpResponse:
    """Every saved recipe with its versions, what each changed and which rounds ran it."""
    context = {"recipes": recipes_of(project), "presets": PRESETS, "section": "rounds"}
    return TemplateResponse(request, "rounds/recipes.html", context)


@require_POST
@project_page("manage")
def recipe_clone(request: HttpRequest, project: Project, version: int) -> HttpResponse:
    """A recipe of its own that begins with this version; goes to the launch form with it."""
    found = get_object_or_404(RecipeVersion, pk=version, recipe__project=project)
    try:
        made = clone_recipe(version=found, name=request.POST.get("name", ""), by=request.user)
    except RecipeRefused as refusal:
        messages.error(request, str(refusal))
        return redirect("recipes", project.slug)
    messages.success(request, f"{made.recipe.name} begins as a copy of {found}.")
    return redirect("recipes", project.slug)


@require_GET
@project_page("research")
def compare(request: HttpRequest, project: Project) -> HttpResponse:
    """Two to four rounds beside each other, or the latest rounds of saved versions; without any, the choice."""
    chosen = chosen_rounds(request, project)
    listed = project.rounds.filter(kind=Round.Kind.TRAINING).select_related("recipe_version__recipe")[:CHOICES]
    context = {"choices": listed, "chosen": chosen, "most": MOST, "section": "rounds"}
    if 2 <= len(chosen) <= MOST:
        context |= {
            "config": differences(chosen),
            "figures": beside.figure_rows(chosen),
            "plots": beside.overlaid_stages(chosen),
        }
    return TemplateResponse(request, "rounds/compare.html", context)


def chosen_rounds(request: HttpRequest, project: Project) -> list[Round]:
    """The rounds that the address names by `round` or through `version`, by number. Raises Http404."""
    numbers, keys = numbers_of(request.GET.getlist("round")), numbers_of(request.GET.getlist("version"))
    versions = list(RecipeVersion.objects.filter(pk__in=keys, recipe__project=project).select_related("recipe"))
    found = list(project.rounds.filter(number__in=numbers, kind=Round.Kind.TRAINING))
    if len(found) != len(numbers) or len(versions) != len(keys):
        raise Http404("there is no such round or recipe here")
    for version in versions:
        if (latest := latest_round(version)) is None:
            messages.warning(request, f"{version} has no finished round yet: launch one, then compare.")
        else:
            found.append(latest)
    return sorted(set(found), key=lambda round: round.number)


def numbers_of(words: list[str]) -> set[int]:
    """Raises Http404 for what is no number."""
    if not all(word.isdecimal() and len(word) < 10 for word in words):
        raise Http404("rounds and versions have numbers")
    return {int(word) for word in words}
