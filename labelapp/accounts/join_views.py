"""The page behind an invitation's link."""

from allauth.core.ratelimit import consume_or_429
from django.contrib import messages
from django.contrib.auth import login
from django.core.exceptions import ValidationError
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.template.response import TemplateResponse
from django.utils.translation import gettext as _
from django.views.decorators.debug import sensitive_post_parameters
from django.views.decorators.http import require_http_methods

from labelapp.accounts.forms import AccountForm
from labelapp.accounts.invitations import (
    InvitationRefused,
    Joined,
    find_invitation,
    join,
    join_with_new_account,
)
from labelapp.accounts.people import PeopleRefused
from labelapp.models import Invitation
from labelapp.policy import never_cache

BACKEND = "labelapp.accounts.backend.MemberBackend"
STATUS = {"unknown": 404, "revoked": 410, "expired": 410, "used": 410}


@sensitive_post_parameters("password")
@never_cache
@require_http_methods(["GET", "HEAD", "POST"])
def join_page(request: HttpRequest, token: str) -> HttpResponse:
    """Signed in: confirm and join. Signed out: make an account and join, or sign in and come back."""
    if request.method == "POST" and (limited := consume_or_429(request, action="signup")):
        return limited
    try:
        invitation = find_invitation(token)
        if request.method != "POST":
            return _page(request, invitation, AccountForm(label_suffix=""))
        if request.user.is_authenticated:
            return _welcome(request, join(token=token, user=request.user))
        return _make_account(request, token, invitation)
    except InvitationRefused as refusal:
        return _closed(request, refusal)


def _make_account(request: HttpRequest, token: str, invitation: Invitation) -> HttpResponse:
    form = AccountForm(request.POST, label_suffix="")
    if not form.is_valid():
        return _page(request, invitation, form, status=422)
    try:
        user, joined = join_with_new_account(token=token, **form.cleaned_data)
    except PeopleRefused as refusal:
        form.add_error("username", str(refusal))
    except ValidationError as refusal:
        form.add_error("password", refusal)
    else:
        login(request, user, backend=BACKEND)
        return _welcome(request, joined)
    return _page(request, invitation, form, status=422)


def _welcome(request: HttpRequest, joined: Joined) -> HttpResponse:
    role, name = joined.membership.get_role_display().lower(), joined.membership.project.name
    said = {
        "joined": _("Welcome to %(project)s: you are %(role)s here."),
        "raised": _("You are %(role)s of %(project)s now."),
        "already": _("You are %(role)s of %(project)s already; the link was not used up."),
    }
    messages.success(request, said[joined.how] % {"role": role, "project": name})
    target = "project" if joined.membership.role in ("researcher", "admin") else "label"
    return redirect(target, joined.membership.project.slug)


def _page(request: HttpRequest, invitation: Invitation, form: AccountForm, *, status: int = 200) -> HttpResponse:
    context = {"invitation": invitation, "form": form}
    return TemplateResponse(request, "accounts/join.html", context, status=status)


def _closed(request: HttpRequest, refusal: InvitationRefused) -> HttpResponse:
    """One page for each reason; only those whose link was good once read the project's name."""
    context = {"why": refusal.why, "invitation": refusal.invitation}
    return TemplateResponse(request, "accounts/join_closed.html", context, status=STATUS[refusal.why])
