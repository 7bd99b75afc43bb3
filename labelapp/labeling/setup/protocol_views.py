"""The pages on which an admin composes what is asked, sees it as a labeler would, and compares versions."""

from django.contrib import messages
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect
from django.template.response import TemplateResponse
from django.utils.translation import gettext as _
from django.utils.translation import ngettext
from django.views.decorators.http import require_http_methods, require_POST

from labelapp.accounts.permissions import project_page
from labelapp.labeling.protocol import Protocol, parse
from labelapp.labeling.setup.actions import move_open_comparisons, save_protocol
from labelapp.labeling.setup.changes import protocol_changes
from labelapp.labeling.setup.composer import Composer
from labelapp.labeling.setup.presets import PRESETS
from labelapp.labeling.setup.preview import preview_document
from labelapp.models import Project, ProtocolVersion


@require_http_methods(["GET", "HEAD", "POST"])
@project_page("manage")
def compose(request: HttpRequest, project: Project) -> HttpResponse:
    """GET starts from the latest version, another one or a preset; a POST changes the rows, or saves."""
    if request.method != "POST":
        return composer_page(request, project, Composer(protocol=start_of(request, project)))
    composer, do = Composer(request.POST), request.POST.get("do", "preview")
    if do == "save":
        protocol = composer.protocol()
        if protocol is None:
            return composer_page(request, project, composer, status=422)
        save(request, project, protocol.as_json())
        return redirect("setup_protocol", project.slug)
    composer.change_rows(do)
    return composer_page(request, project, composer)


def start_of(request: HttpRequest, project: Project) -> Protocol:
    if preset := request.GET.get("preset"):
        if preset not in PRESETS:
            raise Http404("there is no such preset")
        return PRESETS[preset].protocol
    if number := request.GET.get("version"):
        return parse(version_numbered(project, number).definition)
    latest = project.protocol_versions.last()
    return parse(latest.definition) if latest else PRESETS["default"].protocol


def version_numbered(project: Project, number: str) -> ProtocolVersion:
    if not number.isdecimal() or len(number) > 9:
        raise Http404("versions have numbers")
    return get_object_or_404(ProtocolVersion, project=project, number=int(number))


def save(request: HttpRequest, project: Project, definition: dict) -> None:
    """Save, move what is open where that was asked for, and say what was done."""
    version, new = save_protocol(project=project, definition=definition)
    if new:
        messages.success(request, _("Saved as version %(n)s. New comparisons ask it.") % {"n": version.number})
    else:
        messages.info(request, _("Nothing has changed: version %(n)s asks this already.") % {"n": version.number})
    if request.POST.get("move_open"):
        messages.info(request, told(move_open_comparisons(version=version)))


def told(moved) -> str:
    """How many open comparisons moved, how many stayed and why."""
    said = [
        ngettext("%(n)s open comparison was moved.", "%(n)s open comparisons were moved.", moved.moved)
        % {"n": moved.moved}
    ]
    reasons = [
        (moved.judged, _("%(n)s stayed as they were: judged already.")),
        (moved.held, _("%(n)s stayed as they were: somebody is looking at them.")),
        (moved.unfit, _("%(n)s stayed as they were: they have a number of responses that this protocol cannot ask.")),
    ]
    return " ".join(said + [text % {"n": n} for n, text in reasons if n])


def composer_page(
    request: HttpRequest, project: Project, composer: Composer, *, status: int = 200
) -> HttpResponse:
    """The page, or for htmx its one section. An empty form is not scolded before something was said."""
    protocol = composer.protocol()
    context = {
        "section": "setup",
        "part": "protocol",
        "composer": composer,
        "document": protocol and preview_document(request, project, protocol),
        "latest": project.protocol_versions.last(),
        "presets": PRESETS.values(),
        "move_open": request.POST.get("move_open"),
    }
    template = "setup/_composer.html" if request.htmx else "setup/protocol.html"
    return TemplateResponse(request, template, context, status=status)


@require_POST
@project_page("manage")
def preview(request: HttpRequest, project: Project) -> HttpResponse:
    """What a labeler would see, and the errors of each field; nothing is saved."""
    composer = Composer(request.POST)
    protocol = composer.protocol()
    document = protocol and preview_document(request, project, protocol)
    return TemplateResponse(request, "setup/_preview.html", {"composer": composer, "document": document, "oob": True})


@require_http_methods(["GET", "HEAD", "POST"])
@project_page("manage")
def versions(request: HttpRequest, project: Project) -> HttpResponse:
    """Every version, and the difference between two; a POST makes an older one current, as a new version."""
    if request.method == "POST":
        save(request, project, version_numbered(project, request.POST.get("number", "")).definition)
        return redirect("setup_protocol_versions", project.slug)
    rows = list(project.protocol_versions.order_by("-number"))
    old, new = two_of(rows, request.GET)
    changes = protocol_changes(parse(old.definition), parse(new.definition)) if old and new else None
    context = {"section": "setup", "part": "protocol", "versions": rows, "old": old, "new": new, "changes": changes}
    return TemplateResponse(request, "setup/protocol_versions.html", context)


def two_of(rows: list, asked) -> tuple:
    """The versions that `old` and `new` of the address name; the latest two by default."""
    by_number = {str(row.number): row for row in rows}
    new = by_number.get(asked.get("new", ""), rows[0] if rows else None)
    return by_number.get(asked.get("old", ""), rows[1] if rows[1:] else None), new
