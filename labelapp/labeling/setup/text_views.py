"""The pages of the versioned texts: the guidelines, and what labelers agree to."""

from dataclasses import dataclass

from django.contrib import messages
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect
from django.template.loader import render_to_string
from django.template.response import TemplateResponse
from django.utils.translation import gettext as _
from django.utils.translation import ngettext
from django.views.decorators.http import require_http_methods, require_POST

from labelapp.accounts.permissions import project_page
from labelapp.labeling.quality.reask import made_under, reask, why_none
from labelapp.labeling.refusals import BadSetup
from labelapp.labeling.setup.actions import LONGEST_TEXT, require_consent, save_text
from labelapp.labeling.setup.forms import TextForm
from labelapp.labeling.setup.protocol_views import two_of
from labelapp.labeling.text.diffs import word_diff
from labelapp.labeling.text.render import render_markdown
from labelapp.models import ConsentVersion, GuidelineVersion, Project

LONGEST_NOTE = 1000


@dataclass(frozen=True)
class Kind:
    """A versioned text and the words of its pages. start: the file that a first version starts from."""

    name: str
    model: type
    start: str


KINDS = {
    "guidelines": Kind("guidelines", GuidelineVersion, "setup/guidelines_start.md"),
    "consent": Kind("consent", ConsentVersion, "setup/consent_start.md"),
}


@require_http_methods(["GET", "HEAD", "POST"])
@project_page("manage")
def text_page(request: HttpRequest, project: Project, name: str) -> HttpResponse:
    """The editor with the latest version, or a template to start from; a POST saves the next version."""
    kind = KINDS[name]
    if request.method != "POST":
        latest = kind.model.objects.filter(project=project).last()
        return editor(request, project, kind, TextForm(initial={"text": latest.text if latest else start_of(kind)}))
    form = TextForm(request.POST)
    if request.POST.get("do") != "save" or not form.is_valid():
        return editor(request, project, kind, form, status=200 if form.is_valid() else 422)
    try:
        save(request, project, kind, form.cleaned_data["text"])
    except BadSetup as refusal:
        form.add_error("text", str(refusal))
        return editor(request, project, kind, form, status=refusal.status)
    return redirect(f"setup_{name}", project.slug)


def start_of(kind: Kind) -> str:
    return render_to_string(kind.start).strip()


def save(request: HttpRequest, project: Project, kind: Kind, text: str) -> None:
    version, new = save_text(project=project, model=kind.model, text=text)
    if new:
        messages.success(request, _("Saved as version %(n)s.") % {"n": version.number})
    else:
        messages.info(request, _("Nothing has changed: this is version %(n)s already.") % {"n": version.number})
    if kind.name == "consent" and request.POST.get("require"):
        ask_consent(request, project, version)


def ask_consent(request: HttpRequest, project: Project, version: ConsentVersion | None) -> None:
    require_consent(project=project, version=version)
    if version is None:
        messages.info(request, _("No consent is asked for any more. What was accepted stays on record."))
    else:
        said = _("Version %(n)s is required now: every labeler must accept it before they go on.")
        messages.warning(request, said % {"n": version.number})


def editor(
    request: HttpRequest, project: Project, kind: Kind, form: TextForm, *, status: int = 200
) -> HttpResponse:
    text = form["text"].value() or ""
    context = {
        "section": "setup",
        "part": kind.name,
        "kind": kind,
        "form": form,
        "html": render_markdown(text[:LONGEST_TEXT]),
        "versions": list(kind.model.objects.filter(project=project).order_by("-number")),
        "required": project.consent_version if kind.name == "consent" else None,
    }
    return TemplateResponse(request, "setup/text.html", context, status=status)


@require_POST
@project_page("manage")
def text_preview(request: HttpRequest, project: Project, name: str) -> HttpResponse:
    """The text as labelers will read it; nothing is saved."""
    html = render_markdown(request.POST.get("text", "")[:LONGEST_TEXT])
    return TemplateResponse(request, "setup/_text_preview.html", {"html": html})


@require_http_methods(["GET", "HEAD", "POST"])
@project_page("manage")
def text_versions(request: HttpRequest, project: Project, name: str) -> HttpResponse:
    """Every version, and two of them word by word; a POST makes an older one current, as a new version."""
    kind = KINDS[name]
    if request.method == "POST":
        save(request, project, kind, version_numbered(project, kind, request.POST.get("number", "")).text)
        return redirect(f"setup_{name}_versions", project.slug)
    rows = list(kind.model.objects.filter(project=project).order_by("-number"))
    old, new = two_of(rows, request.GET)
    diff = word_diff(old.text, new.text) if old and new else None
    context = {"section": "setup", "part": name, "kind": kind, "versions": rows, "old": old, "new": new, "diff": diff}
    return TemplateResponse(request, "setup/text_versions.html", context)


def version_numbered(project: Project, kind: Kind, number: str):
    if not number.isdecimal() or len(number) > 9:
        raise Http404("versions have numbers")
    return get_object_or_404(kind.model, project=project, number=int(number))


@require_POST
@project_page("manage")
def consent_required(request: HttpRequest, project: Project) -> HttpResponse:
    """Make one version of the consent the required one, or none."""
    number = request.POST.get("number", "")
    version = version_numbered(project, KINDS["consent"], number) if number else None
    ask_consent(request, project, version)
    return redirect("setup_consent", project.slug)


@require_POST
@project_page("manage")
def guidelines_reask(request: HttpRequest, project: Project) -> HttpResponse:
    """Ask everybody again what they answered under one version of the guidelines, and tell them why."""
    note = request.POST.get("note", "").strip()
    if not 1 <= len(note) <= LONGEST_NOTE:
        said = _("Say in 1 to %(most)s characters why it is asked again: the labelers read it.")
        messages.error(request, said % {"most": LONGEST_NOTE})
    else:
        version = version_numbered(project, KINDS["guidelines"], request.POST.get("number", ""))
        asked = reask(judgments=made_under(version), note=note)
        said = ngettext("%(n)s answer is asked again.", "%(n)s answers are asked again.", asked) % {"n": asked}
        messages.success(request, said if asked else why_none(made_under(version)))
    return redirect("setup_guidelines_versions", project.slug)
