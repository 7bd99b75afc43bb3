"""The launch form: a preset or a saved recipe, changed or not; launched, or saved under a name."""

from django.contrib import messages
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect
from django.template.response import TemplateResponse
from django.urls import reverse
from django.views.decorators.http import require_GET, require_http_methods

from labelapp.accounts.permissions import project_page
from labelapp.models import Estimate, Project, RecipeVersion, Round
from labelapp.models.rounds import ACTIVE_STATES
from labelapp.rounds.actions import LaunchRefused, RoundAlreadyActive, launch_round, usual_parent
from labelapp.rounds.compute import reckoned
from labelapp.rounds.dry_runs import is_lost, order_estimate
from labelapp.rounds.estimate import by_dry_run
from labelapp.rounds.forms import LaunchForm, filled_from
from labelapp.rounds.presets import PRESETS, USUAL
from labelapp.rounds.recipes import OptionRefused
from labelapp.rounds.saved import RecipeRefused, plan_preset, plan_saved, recipes_of, save_recipe, versions_of


@require_http_methods(["GET", "POST"])
@project_page("manage")
def round_new(request: HttpRequest, project: Project) -> HttpResponse:
    """The form; a POST launches and goes to the round's page, or saves and comes back with what was saved."""
    estimate = asked_estimate(request, project)
    saved, recipe = asked_version(request, project, estimate), asked_recipe(request, estimate)
    recipe = saved.preset if saved and not estimate and request.method == "GET" else recipe
    start = initial(project, recipe, saved) | (estimate.form if estimate else {})
    form = LaunchForm(request.POST or None, project=project, recipe=recipe, initial=start)
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
    if estimate:
        context |= estimate_context(estimate)
    return TemplateResponse(request, "rounds/round_new.html", context, status=status)


def asked_recipe(request: HttpRequest, estimate: Estimate | None) -> str:
    """The preset that the form, an estimate or the address names; the usual one where it is none of ours."""
    known = estimate.form.get("recipe", "") if estimate else request.GET.get("recipe", "")
    asked = request.POST.get("recipe") or known
    return asked if asked in PRESETS else USUAL


def asked_version(request: HttpRequest, project: Project, estimate: Estimate | None) -> RecipeVersion | None:
    """The saved version that the form, an estimate or the address names, of this project."""
    known = estimate.form.get("saved", "") if estimate else request.GET.get("saved", "")
    asked = str(request.POST.get("saved") or known)
    return versions_of(project).filter(pk=int(asked)).first() if is_key(asked) else None


def asked_estimate(request: HttpRequest, project: Project) -> Estimate | None:
    """The estimate that the address names, of this project; a form that was sent says all itself."""
    asked = request.GET.get("estimate", "") if request.method == "GET" else ""
    return project.estimates.filter(pk=int(asked)).first() if is_key(asked) else None


def is_key(text: str) -> bool:
    return text.isdecimal() and len(text) < 10


def initial(project: Project, recipe: str, saved: RecipeVersion | None) -> dict:
    """The newest snapshot and the usual parent; the settings of a saved version."""
    start = {"recipe": recipe, "snapshot": project.snapshots.first(), "parent": usual_parent(project)}
    return start | (filled_from(saved) if saved else {})


def do(request: HttpRequest, project: Project, form: LaunchForm) -> HttpResponse:
    """What the pressed button says. Raises what launching and saving refuse with."""
    if request.POST.get("do") == "save":
        return save(request, project, form)
    if request.POST.get("do") == "estimate":
        return estimate(request, project, form)
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


def estimate(request: HttpRequest, project: Project, form: LaunchForm) -> HttpResponse:
    """Have it run dry, and come back to the same settings, where the page says how far that is."""
    given, saved = form.cleaned_data, form.unchanged()
    plan = plan_preset(given["recipe"], mitigation=given["mitigation"], changes=form.changes())
    ordered = order_estimate(
        project=project,
        plan=plan_saved(saved) if saved else plan,
        snapshot=given["snapshot"],
        parent=given["parent"],
        seed=given["seed"] or 0,
        by=request.user,
        form={name: form[name].data for name in form.fields if form[name].data not in (None, "")},
    )
    return redirect(f"{reverse('round_new', args=[project.slug])}?estimate={ordered.pk}#estimate")


@require_GET
@project_page("manage")
def round_estimate(request: HttpRequest, project: Project, estimate: int) -> HttpResponse:
    """The part of the launch page that says what the round would take, for htmx to renew."""
    found = get_object_or_404(project.estimates, pk=estimate)
    return TemplateResponse(request, "rounds/_estimate.html", estimate_context(found))


def estimate_context(estimate: Estimate) -> dict:
    """What the estimate says so far."""
    context = {"estimate": estimate, "lost": is_lost(estimate), "checks": estimate.found.get("checks", [])}
    if estimate.state != Estimate.State.DONE:
        return context | {"stages_done": len(estimate.found.get("stages", []))}
    return context | {"reckoned": reckoned(estimate.project, by_dry_run(estimate))}


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
