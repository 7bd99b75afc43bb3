"""The page on which admins say who is told when a round ends."""

from django.contrib import messages
from django.db import IntegrityError, transaction
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect
from django.template.response import TemplateResponse
from django.utils.translation import gettext as _
from django.views.decorators.http import require_http_methods, require_POST

from labelapp.accounts.permissions import project_page
from labelapp.models import Delivery, Project, Subscription
from labelapp.rounds.notices import outbox
from labelapp.rounds.notices.forms import WebhookForm
from labelapp.rounds.notices.webhook import secret_of

LISTED = 50
Kind = Subscription.Kind


@require_http_methods(["GET", "POST"])
@project_page("manage")
def notices(request: HttpRequest, project: Project) -> HttpResponse:
    """Who is told, the newest messages, and the form of a new webhook."""
    form = WebhookForm(request.POST or None)
    if request.method == "POST" and form.is_valid():
        subscribe(request, project, Kind.WEBHOOK, form.cleaned_data["address"])
        return redirect("notices", project.slug)
    standing = [(each, secret_of(each) if each.kind == Kind.WEBHOOK else "")
                for each in project.subscriptions.filter(ended_at=None).select_related("created_by")]  # fmt: skip
    sent = Delivery.objects.filter(subscription__project=project).select_related("subscription", "event__round")
    mine = any(each.address == request.user.email for each, _secret in standing)
    ended = project.subscriptions.exclude(ended_because="").exclude(ended_at=None)
    context = {"form": form, "standing": standing, "sent": sent[:LISTED], "mine": mine, "ended": ended,
               "section": "rounds"}  # fmt: skip
    return TemplateResponse(request, "rounds/notices.html", context, status=422 if form.errors else 200)


@require_POST
@project_page("manage")
def notices_email(request: HttpRequest, project: Project) -> HttpResponse:
    """The admin's own address, and nobody else's: so nobody is written to who did not ask for it."""
    if request.user.email:
        subscribe(request, project, Kind.EMAIL, request.user.email)
    else:
        messages.warning(request, _("Your account has no e-mail address."))
    return redirect("notices", project.slug)


def subscribe(request: HttpRequest, project: Project, kind: str, address: str) -> None:
    origin = request.build_absolute_uri("/").rstrip("/")
    try:
        with transaction.atomic():
            Subscription.objects.create(
                project=project, kind=kind, address=address, origin=origin, created_by=request.user
            )
    except IntegrityError as error:
        if "one_standing_subscription_an_address" not in str(error):
            raise
        messages.info(request, _("%(address)s is told already.") % {"address": address})
    else:
        messages.success(request, _("%(address)s is told when a round ends.") % {"address": address})


@require_POST
@project_page("manage")
def notices_trial(request: HttpRequest, project: Project, pk: int) -> HttpResponse:
    """Send a message now, to see it arrive."""
    outbox.send_trial(get_object_or_404(project.subscriptions, pk=pk, ended_at=None))
    messages.success(request, _("A trial message is on its way: below it says what came of it."))
    return redirect("notices", project.slug)


@require_POST
@project_page("manage")
def notices_end(request: HttpRequest, project: Project, pk: int) -> HttpResponse:
    """No more messages there; what is still to be sent is given up."""
    found = get_object_or_404(project.subscriptions, pk=pk, ended_at=None)
    outbox.end(found, because="")
    messages.success(request, _("%(address)s is told no more.") % {"address": found.address})
    return redirect("notices", project.slug)
