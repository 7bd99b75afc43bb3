"""The consent text: whoever labels has accepted the version in force, and every judgment cites it."""

from collections.abc import Callable
from contextlib import suppress
from functools import wraps
from time import time_ns

from django.db import transaction
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.urls import reverse

from labelapp.accounts.permissions import project_page
from labelapp.labeling.claims import read_claim
from labelapp.labeling.drafts import save_draft
from labelapp.labeling.refusals import Refusal
from labelapp.models import Consent, ConsentVersion, Membership, Project


def lacks_consent(membership: Membership) -> bool:
    """Whether the project asks for a consent that this member has not given, or gave to an earlier text."""
    wanted, given = membership.project.consent_version_id, membership.consent
    return wanted is not None and (given is None or given.version_id != wanted)


@transaction.atomic
def accept_consent(*, membership: Membership, version: ConsentVersion) -> Consent:
    """The member's yes to this text; a second one changes nothing."""
    consent, _ = Consent.objects.get_or_create(version=version, labeler_id=membership.user_id)
    Membership.objects.filter(pk=membership.pk).update(consent=consent)
    return consent


def labeler_page(view: Callable[..., HttpResponse]) -> Callable[..., HttpResponse]:
    """project_page("label"), for those who gave their consent; the others are led to it and nothing is done."""

    @project_page("label")
    @wraps(view)
    def page(request: HttpRequest, project: Project, *args, **kwargs) -> HttpResponse:
        if lacks_consent(request.membership):
            return _lead_to_consent(request, project)
        return view(request, project, *args, **kwargs)

    return page


def _lead_to_consent(request: HttpRequest, project: Project) -> HttpResponse:
    """A script learns where to go, and keeps its answer; without one, the answer becomes a draft of its item."""
    where = reverse("label_consent", args=[project.slug])
    if request.htmx:
        return HttpResponse(status=403, headers={"HX-Redirect": where})
    if "submission_id" in request.POST:
        _keep_as_draft(request, project)
    return HttpResponseRedirect(where, status=303)


def _keep_as_draft(request: HttpRequest, project: Project) -> None:
    """The text changed while somebody worked: their answer waits for their word on the new one."""
    body = {name: values if name == "reasons" else values[-1] for name, values in request.POST.lists()}
    with suppress(Refusal):
        claim = read_claim(body.pop("claim", ""), project=project, labeler=request.user)
        save_draft(claim=claim, labeler=request.user, revision=time_ns() // 1_000_000, body=body)
