"""The setup pages of a project: the overview, its name, its queue's rules; and a new project."""

from django.contrib import messages
from django.contrib.auth.decorators import login_required
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.template.response import TemplateResponse
from django.utils.translation import gettext as _
from django.utils.translation import ngettext
from django.views.decorators.http import require_GET, require_http_methods, require_POST

from labelapp.accounts.permissions import may_found, project_page
from labelapp.labeling.protocol import parse
from labelapp.labeling.quality.gold import gold_of
from labelapp.labeling.refusals import BadSetup
from labelapp.labeling.setup.actions import create_project, rename_project, set_rules
from labelapp.labeling.setup.changes import described
from labelapp.labeling.setup.extension import extend_open_comparisons, wanting
from labelapp.labeling.setup.forms import NewProjectForm, ProjectForm, RulesForm
from labelapp.labeling.setup.presets import PRESETS
from labelapp.models import Project

COUNTED = 10_000  # more than these are "more than"


@require_GET
@project_page("manage")
def overview(request: HttpRequest, project: Project) -> HttpResponse:
    """What is set up, what is missing, and where to change it."""
    protocol = project.protocol_versions.last()
    context = {
        "section": "setup",
        "part": "overview",
        "protocol": protocol,
        "asked": described(parse(protocol.definition)) if protocol else {},
        "guideline": project.guideline_versions.last(),
        "consent": project.consent_version,
        "rules": RulesForm(project=project).in_force(),
    }
    return TemplateResponse(request, "setup/overview.html", context)


@require_http_methods(["GET", "HEAD", "POST"])
@project_page("manage")
def describe(request: HttpRequest, project: Project) -> HttpResponse:
    """Name and description."""
    now = {"name": project.name, "description": project.description}
    form = ProjectForm(request.POST if request.method == "POST" else None, initial=now)
    if request.method == "POST" and form.is_valid():
        try:
            rename_project(project=project, **form.cleaned_data)
        except BadSetup as refusal:
            form.add_error(refusal.field, str(refusal))
        else:
            messages.success(request, _("Saved."))
            return redirect("setup_project", project.slug)
    context = {"section": "setup", "part": "project", "form": form}
    return TemplateResponse(request, "setup/project.html", context, status=422 if form.errors else 200)


@require_http_methods(["GET", "HEAD", "POST"])
@project_page("manage")
def rules(request: HttpRequest, project: Project) -> HttpResponse:
    """How the queue is run; and, where open comparisons get less than the overlap, the offer to extend them."""
    form = RulesForm(request.POST if request.method == "POST" else None, project=project)
    if request.method == "POST" and form.is_valid():
        try:
            set_rules(project=project, rules=form.rules())
        except BadSetup as refusal:
            form.add_error(refusal.field, str(refusal))
        else:
            messages.success(request, _("Saved. The next item is handed out by these rules."))
            return redirect("setup_queue", project.slug)
    short = wanting(project, project.overlap)[: COUNTED + 1].count()
    context = {
        "section": "setup",
        "part": "queue",
        "form": form,
        "short": short,
        "counted": COUNTED,
        "golden": gold_of(project)[: COUNTED + 1].count(),
    }
    return TemplateResponse(request, "setup/queue.html", context, status=422 if form.errors else 200)


@require_POST
@project_page("manage")
def extend(request: HttpRequest, project: Project) -> HttpResponse:
    """Give open comparisons the places that the overlap asks for."""
    added = extend_open_comparisons(project=project)
    said = ngettext("%(n)s place to judge was added.", "%(n)s places to judge were added.", added) % {"n": added}
    messages.success(request, said)
    return redirect("setup_queue", project.slug)


@require_http_methods(["GET", "HEAD", "POST"])
@login_required
def project_new(request: HttpRequest) -> HttpResponse:
    """A new project, whose admin is whoever makes it."""
    if not may_found(request.user):
        raise PermissionDenied("only an admin of a project may make another one")
    form = NewProjectForm(request.POST if request.method == "POST" else None)
    status = 422 if form.errors else 200
    if request.method == "POST" and form.is_valid():
        given = dict(form.cleaned_data)
        try:
            made = create_project(protocol=PRESETS[given.pop("preset")].protocol, by=request.user, **given)
        except BadSetup as refusal:
            form.add_error(refusal.field, str(refusal))
            status = refusal.status
        else:
            messages.success(request, _("%(name)s is ready to be set up.") % {"name": made.name})
            return redirect("setup", made.slug)
    context = {"form": form, "presets": PRESETS.values()}
    return TemplateResponse(request, "setup/project_new.html", context, status=status)
