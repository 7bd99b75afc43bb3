"""The people of a project: members, what an admin does about them, and invitations."""

from collections.abc import Callable

from django.contrib import messages
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect
from django.template.response import TemplateResponse
from django.urls import reverse
from django.utils import timezone
from django.utils.translation import gettext as _
from django.views.decorators.http import require_GET, require_POST

from labelapp.accounts.forms import InviteForm, MemberForm
from labelapp.accounts.invitations import closed_because, invite, revoke_invitation
from labelapp.accounts.people import PeopleRefused, change_role, remove_member, set_cap, set_tags
from labelapp.accounts.permissions import project_page
from labelapp.labeling.overview.people import pause, resume
from labelapp.labeling.quality.quiz import let_in, let_try_again, quiz_state
from labelapp.labeling.refusals import Refusal
from labelapp.models import Membership, Project, WorkDay
from labelapp.policy import never_cache

LISTED = 50


@never_cache
@require_GET
@project_page("manage")
def people(request: HttpRequest, project: Project) -> HttpResponse:
    """Members, and invitations with what is left of them."""
    return _people_page(request, project)


def _people_page(request: HttpRequest, project: Project, *, status: int = 200, **more) -> HttpResponse:
    members = list(project.memberships.select_related("user").order_by("user__username"))
    work = WorkDay.objects.filter(project=project, day=timezone.now().date())
    today = dict(work.values_list("labeler", "judged"))
    for member in members:
        member.today = today.get(member.user_id, 0)
    invitations = list(project.invitations.select_related("created_by").order_by("-pk")[:LISTED])
    for invitation in invitations:
        invitation.closed = closed_because(invitation)
    context = {"section": "labeling", "members": members, "invitations": invitations, **more}
    context.setdefault("form", InviteForm(label_suffix=""))
    return TemplateResponse(request, "accounts/people.html", context, status=status)


@never_cache
@require_POST
@project_page("manage")
def people_invite(request: HttpRequest, project: Project) -> HttpResponse:
    """Make an invitation and show its link, this once."""
    form = InviteForm(request.POST, label_suffix="")
    if not form.is_valid():
        return _people_page(request, project, form=form, status=422)
    given = form.cleaned_data
    invitation, token = invite(
        project=project, by=request.user, role=given["role"], expires_in=form.expires_in, uses=given["uses"],
        tags=given["tags"],
    )  # fmt: skip
    link = request.build_absolute_uri(reverse("join", args=[token]))
    return _people_page(request, project, link=link, invited=invitation)


@require_POST
@project_page("manage")
def people_revoke(request: HttpRequest, project: Project, number: int) -> HttpResponse:
    """Close an invitation."""
    revoke_invitation(invitation=get_object_or_404(project.invitations, pk=number))
    messages.success(request, _("The invitation is revoked: its link opens nothing any more."))
    return redirect("people", project.slug)


@never_cache
@require_GET
@project_page("manage")
def person(request: HttpRequest, project: Project, number: int) -> HttpResponse:
    """One member, with all that can be done about them."""
    return _person_page(request, project, _member(project, number))


def _member(project: Project, number: int) -> Membership:
    return get_object_or_404(project.memberships.select_related("user", "project"), pk=number)


def _person_page(request: HttpRequest, project: Project, member: Membership, *, status=200, **more) -> HttpResponse:
    initial = {"role": member.role, "tags": member.tags, "daily_cap": member.daily_cap}
    context = {
        "section": "labeling",
        "member": member,
        "form": MemberForm(initial=initial, label_suffix=""),
        "pseudonym": f"labeler-{member.user_id}",
        "quiz": quiz_state(member) if member.is_before_quiz else None,
        **more,
    }
    return TemplateResponse(request, "accounts/person.html", context, status=status)


@require_POST
@project_page("manage")
def person_change(request: HttpRequest, project: Project, number: int) -> HttpResponse:
    """Role, tags and cap."""
    member, form = _member(project, number), MemberForm(request.POST, label_suffix="")
    if not form.is_valid():
        return _person_page(request, project, member, form=form, status=422)
    given = form.cleaned_data
    try:
        change_role(member=member, role=given["role"])
    except PeopleRefused as refusal:
        return _person_page(request, project, member, form=form, refusal=str(refusal), status=409)
    set_tags(member=member, tags=given["tags"])
    set_cap(member=member, cap=given["daily_cap"])
    messages.success(request, _("Saved: %(name)s is %(role)s.") % {"name": member.user, "role": given["role"]})
    return _back(request, project, member)


def _back(request: HttpRequest, project: Project, member: Membership) -> HttpResponse:
    """To the members; for somebody who has just given up being admin, to what they may still see."""
    still_here = member.user_id != request.user.pk or Membership.objects.filter(pk=member.pk, role="admin").exists()
    return redirect("people", project.slug) if still_here else redirect("home")


def acted(act: Callable[[Membership, HttpRequest], str]) -> Callable[..., HttpResponse]:
    """A view that does one thing about one member; `act` returns what to say."""

    @require_POST
    @project_page("manage")
    def view(request: HttpRequest, project: Project, number: int) -> HttpResponse:
        member = _member(project, number)
        try:
            messages.success(request, act(member, request))
        except (PeopleRefused, Refusal) as refusal:
            return _person_page(request, project, member, refusal=str(refusal), status=409)
        return _back(request, project, member)

    return view


@acted
def person_pause(member: Membership, request: HttpRequest) -> str:
    if not (reason := request.POST.get("reason", "").strip()[:500]):
        raise PeopleRefused(_("Say why in a few words: the labeler reads it."))
    pause(member, reason)
    return _("%(name)s is paused and holds no item any more.") % {"name": member.user}


@acted
def person_resume(member: Membership, request: HttpRequest) -> str:
    resume(member)
    return _("%(name)s may work again.") % {"name": member.user}


@acted
def person_let_in(member: Membership, request: HttpRequest) -> str:
    let_in(member)
    return _("%(name)s may work without the quiz.") % {"name": member.user}


@acted
def person_try_again(member: Membership, request: HttpRequest) -> str:
    let_try_again(member)
    return _("%(name)s gets another quiz.") % {"name": member.user}


@acted
def person_remove(member: Membership, request: HttpRequest) -> str:
    remove_member(member=member)
    return _("%(name)s is no member any more. Their judgments stay.") % {"name": member.user}
