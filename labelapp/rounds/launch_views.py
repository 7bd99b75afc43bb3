"""The launch form: a preset or a saved recipe, changed or not; launched, or saved under a name."""

from django.contrib import messages
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.template.response import TemplateResponse
from django.urls import reverse
from django.views.decorators.http import require_http_methods

from labelapp.accounts.permissions import project_page
from labelapp.models import Project, RecipeVersion, Round
from labelapp.models.rounds import ACTIVE_STATES
from labelapp.rounds.actions import LaunchRefused, RoundAlreadyActive, launch_round, usual_parent
from labelapp.rounds.forms import LaunchForm, filled_from
from labelapp.rounds.presets import PRESETS, USUAL
from labelapp.rounds.recipes import OptionRefused
from labelapp.rounds.saved import RecipeRefused, recipes_of, save_recipe, versions_of


@require_http_methods(["GET", "POST"])
@project_page("manage")
def round_new(request: HttpRequest, project: Project) -> HttpResponse:
    """The form; a POST launches and goes to the round's page, or saves and comes back with what was saved."""
    saved, recipe = asked_version(request, project), asked_recipe(request)
    recipe = saved.preset if saved and request.method == "GET" else recipe
    form = LaunchForm(request.POST or None, project=project, recipe=recipe, initial=initial(project, recipe, saved))
    active, status = None, 200
    if request.method == "POST" and form.is_valid():
        try:
            return do(request, project, form)
        except RoundAlreadyActive as refusal:
            form.add_error(None, str(refusal))
            active, status = refusal.round, 409
        except LaunchRefused as refusal:
            form.add_error(refusal.field or None, str(refusal))
        except RecipeRefused as refusal:
            form.add_error("save_name", str(refusal))
        except OptionRefused as refusal:
            form.add_error(refusal.option if refusal.option in form.fields else "further", str(refusal))
    if form.errors and status == 200:
        status = 422
    context = {
        "form": form,
        "active": active or project.rounds.filter(kind=Round.Kind.TRAINING, state__in=ACTIVE_STATES).first(),
        "section": "rounds",
        "presets": PRESETS,
        "recipe": recipe,
        "preset": PRESETS[recipe],
        "saved": saved,
        "recipes": recipes_of(project),
    }
    return TemplateResponse(request, "rounds/round_new.html", context, status=status)


def asked_recipe(request: HttpRequest) -> str:
    """The preset that the address or the form names; the usual one where it is none of ours."""
    asked = request.POST.get("recipe") or request.GET.get("recipe", "")
    return asked if asked in PRESETS else USUAL


def asked_version(request: HttpRequest, project: Project) -> RecipeVersion | None:
    """The saved version that the address or the form names, of this project."""
    asked = request.POST.get("saved") or request.GET.get("saved", "")
    return versions_of(project).filter(pk=int(asked)).first() if asked.isdecimal() and len(asked) < 10 else None


def initial(project: Project, recipe: str, saved: RecipeVersion | None) -> dict:
    """The newest snapshot and the usual parent; the settings of a saved version."""
    start = {"recipe": recipe, "snapshot": project.snapshots.first(), "parent": usual_parent(project)}
    return start | (filled_from(saved) if saved else {})


def do(request: HttpRequest, project: Project, form: LaunchForm) -> HttpResponse:
    """What the pressed button says. Raises what launching and saving refuse with."""
    if request.POST.get("do") == "save":
        return save(request, project, form)
    return redirect("round", project.slug, launch(request, project, form).number)


def save(request: HttpRequest, project: Project, form: LaunchForm) -> HttpResponse:
    given = form.cleaned_data
    version, new = save_recipe(
        project=project,
        name=given["save_name"],
        preset=given["recipe"],
        mitigation=given["mitigation"],
        changes=form.changes(),
        note=given["save_note"],
        by=request.user,
    )
    if new:
        messages.success(request, f"Saved as {version}.")
    else:
        messages.info(request, f"Nothing has changed: this is {version} already.")
    return redirect(f"{reverse('round_new', args=[project.slug])}?saved={version.pk}#launch")


def launch(request: HttpRequest, project: Project, form: LaunchForm) -> Round:
    given = form.cleaned_data
    return launch_round(
        project=project,
        recipe=given["recipe"],
        snapshot=given["snapshot"],
        parent=given["parent"],
        mitigation=given["mitigation"],
        seed=given["seed"] or 0,
        by=request.user,
        changes=form.changes(),
        saved=form.unchanged(),
    )
