"""The data page: what there is, import, freeze; and the page of one snapshot with its files."""

from pathlib import Path

from django import forms
from django.contrib import messages
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect
from django.template.response import TemplateResponse
from django.views.decorators.csrf import csrf_exempt, csrf_protect
from django.views.decorators.http import require_GET, require_POST, require_safe

from alignment.manifest import MANIFEST, ArtifactError
from labelapp.accounts.permissions import project_page
from labelapp.datasets.actions import (
    ImportRefused,
    NoProtocol,
    NothingToFreeze,
    freeze_snapshot,
    import_preferences,
)
from labelapp.datasets.counts import project_counts
from labelapp.datasets.download import send_file
from labelapp.datasets.figures import figures_of
from labelapp.datasets.preview import first_rows
from labelapp.datasets.reading import BadFile
from labelapp.models import Project, Snapshot
from labelapp.storage import StoreAway, at_hand

UPLOAD_LIMIT = 20 * 10**6  # bytes; what comes over a page is stored while the browser waits
UNPACKED_LIMIT = 5 * UPLOAD_LIMIT
FORM_OVERHEAD = 64 * 1024
LISTED = 100


class ImportForm(forms.Form):
    """A file, a name for where it comes from, and what to do about bad rows."""

    file = forms.FileField(label="File", help_text="JSON lines, up to 20 MB, gzip or not.", allow_empty_file=True)
    source = forms.CharField(
        label="Source",
        required=False,
        max_length=90,
        help_text="Names the annotator where the rows do not. The file's name by default.",
    )
    skip_bad = forms.BooleanField(label="Store the good rows even if some are bad", required=False)


@require_GET
@project_page("research")
def data(request: HttpRequest, project: Project) -> HttpResponse:
    """Counts, the forms, and every snapshot."""
    return _data_page(request, project)


def _data_page(request: HttpRequest, project: Project, *, status: int = 200, **more) -> HttpResponse:
    context = {
        "section": "data",
        "counts": project_counts(project),
        "snapshots": project.snapshots.select_related("created_by").prefetch_related("rounds")[:LISTED],
        "form": ImportForm(label_suffix=""),
        **more,
    }
    return TemplateResponse(request, "datasets/data.html", context, status=status)


@csrf_exempt  # reading the token means reading the body: size comes first, then csrf_protect below
@require_POST
@project_page("manage")
def import_file(request: HttpRequest, project: Project) -> HttpResponse:
    """Import an uploaded file; too large a body is refused before it is read."""
    if int(request.META.get("CONTENT_LENGTH") or 0) > UPLOAD_LIMIT + FORM_OVERHEAD:
        refusal = "The file is larger than 20 MB. Import it on the server: manage.py import " + project.slug + " FILE"
        return _data_page(request, project, refusal=refusal, status=413)
    return _import_file(request, project)


@csrf_protect
def _import_file(request: HttpRequest, project: Project) -> HttpResponse:
    form = ImportForm(request.POST, request.FILES, label_suffix="")
    if not form.is_valid():
        return _data_page(request, project, form=form, status=422)
    given = form.cleaned_data
    try:
        report = import_preferences(
            project=project,
            stream=given["file"].file,
            source=given["source"] or given["file"].name,
            skip_bad=given["skip_bad"],
            max_bytes=UNPACKED_LIMIT,
        )
    except ImportRefused as refused:
        return _data_page(request, project, form=form, refusal=str(refused), report=refused.report, status=422)
    except (BadFile, NoProtocol) as refused:
        return _data_page(request, project, form=form, refusal=str(refused), status=422)
    if report.bad_rows:
        return _data_page(request, project, report=report)
    messages.success(request, summary(report))
    return redirect("data", project.slug)


def summary(report) -> str:
    """What an import did, in a sentence."""
    parts = [f"{report.judgments} new judgments", f"{report.comparisons} new comparisons"]
    if report.open_comparisons:
        parts[1] += f" ({report.open_comparisons} open for labelers)"
    if report.fresh_prompts:
        parts.append(f"{report.fresh_prompts} fresh prompts")
    return f"{report.source}: {report.rows} rows, {', '.join(parts)}, {report.known} already known."


@require_POST
@project_page("research")
def freeze(request: HttpRequest, project: Project) -> HttpResponse:
    """Freeze what stands, and show the snapshot; unchanged data lead to the snapshot that is there."""
    newest = project.snapshots.first()
    try:
        snapshot = freeze_snapshot(project=project, by=request.user)
    except (NothingToFreeze, ArtifactError, OSError) as refused:
        return _data_page(request, project, refusal=f"Nothing was frozen: {refused}.", status=409)
    if snapshot == newest:
        messages.info(request, "Nothing has changed since this snapshot, so it stands.")
    else:
        pairs = f"{snapshot.pairs_train} pairs to train on, {snapshot.pairs_test} to test on"
        messages.success(request, f"Frozen: {pairs}.")
    return redirect("snapshot", project.slug, snapshot.digest)


@require_GET
@project_page("research")
def snapshot(request: HttpRequest, project: Project, digest: str) -> HttpResponse:
    """What a snapshot holds, how its labels look, and what was made from it."""
    found = get_object_or_404(Snapshot.objects.select_related("created_by"), project=project, digest=digest)
    context = {
        "section": "data",
        "snapshot": found,
        "manifest": found.manifest,
        "files": sorted(found.manifest["files"].items()),
        "figures": figures_of(found.manifest["statistics"]),
        "rows": first_rows(found),
        "rounds": found.rounds.select_related("parent"),
        "versions": found.versions.all(),
    }
    return TemplateResponse(request, "datasets/snapshot.html", context)


@require_safe
@project_page("research")
def snapshot_file(request: HttpRequest, project: Project, digest: str, name: str) -> HttpResponse:
    """One of the snapshot's own files, byte for byte."""
    return file_response(request, get_object_or_404(Snapshot, project=project, digest=digest), name)


def files_of(snapshot: Snapshot) -> Path:
    """The snapshot's directory on this machine. Raises Http404."""
    try:
        return Path(at_hand(snapshot.path, snapshot.digest))
    except (ArtifactError, StoreAway) as error:
        raise Http404(f"the snapshot's files cannot be brought here: {error}") from error


def file_response(request: HttpRequest, snapshot: Snapshot, name: str) -> HttpResponse:
    """The file of this name in the manifest, or the manifest; nothing else has a name here. Raises Http404."""
    shas = {name: facts["sha256"] for name, facts in snapshot.manifest["files"].items()} | {MANIFEST: snapshot.digest}
    if name not in shas:
        raise Http404("the snapshot has no such file")
    path = files_of(snapshot) / name
    if not path.is_file():
        raise Http404("the snapshot's file is gone from the disk")
    label = f"{snapshot.project.slug}-{snapshot.digest[:8]}-{name}"
    return send_file(request, path, name=label, sha256=shas[name])
