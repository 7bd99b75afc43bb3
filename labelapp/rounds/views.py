"""The pages of the rounds: the list, the schedule, one round, its files. The launch form: launch_views.py."""

from pathlib import Path

from django.contrib import messages
from django.http import FileResponse, Http404, HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect
from django.template.response import TemplateResponse
from django.views.decorators.http import require_GET, require_http_methods, require_POST

from labelapp.accounts.permissions import project_page
from labelapp.models import MetricRow, Project, Round, Schedule, Stage
from labelapp.rounds import moved, overview, schedule
from labelapp.rounds.actions import RESUMABLE, RoundIsOver, request_cancel, resume_round
from labelapp.rounds.artifacts import PUBLISHED
from labelapp.rounds.compute import lines_of
from labelapp.rounds.forms import ScheduleForm
from labelapp.rounds.presets import USUAL
from labelapp.rounds.refusals import LaunchRefused
from labelapp.rounds.trainer import tail
from labelapp.storage import file_if_at_hand

LISTED = 100
TYPES = {".json": "application/json", ".jsonl": "text/plain; charset=utf-8", ".txt": "text/plain; charset=utf-8"}


@require_GET
@project_page("research")
def rounds(request: HttpRequest, project: Project) -> HttpResponse:
    """The newest rounds, with what came out of them."""
    newest = project.rounds.select_related("parent", "snapshot")[:LISTED]
    lines = [overview.line_of(round) for round in newest.prefetch_related("versions__audits__metrics", "events")]
    points = moved.points_of(project)
    context = {"lines": lines, "marks": moved.marks(points), "chance": moved.chance(points),
               "next_point": moved.next_point(points), "section": "rounds"}  # fmt: skip
    return TemplateResponse(request, "rounds/rounds.html", context)


@require_http_methods(["GET", "POST"])
@project_page("manage")
def round_schedule(request: HttpRequest, project: Project) -> HttpResponse:
    """When rounds begin by themselves."""
    found = Schedule.objects.filter(project=project).select_related("last_round").first()
    form = ScheduleForm(request.POST or None, instance=found or Schedule(project=project, recipe=USUAL))
    if request.method == "POST" and form.is_valid():
        schedule.save(form.save(commit=False), by=request.user)
        messages.success(request, "Saved. New judgments and the clock count from now on.")
        return redirect("round_schedule", project.slug)
    context = {"form": form, "schedule": found, "section": "rounds"}
    if found and found.enabled:
        context |= {"new": schedule.new_judgments(found), "next_time": schedule.next_time(found)}
    return TemplateResponse(request, "rounds/schedule.html", context, status=422 if form.errors else 200)


@require_GET
@project_page("research")
def round_page(request: HttpRequest, project: Project, number: int) -> HttpResponse:
    """Everything about a round as it stands now; the event stream carries on from here."""
    found = get_object_or_404(
        project.rounds.select_related("parent", "snapshot", "recipe_version__recipe"), number=number
    )
    last = MetricRow.objects.filter(stage__round=found).order_by("-pk").first()
    views = overview.stage_views(found)
    context = {
        "round": found,
        "over": overview.is_over(found),
        "resumable": found.kind == Round.Kind.TRAINING and found.state in RESUMABLE,
        "duration": overview.duration_of(found),
        "views": views,
        "compute": lines_of(found),
        "plots": overview.plotted_stages(views),
        "samples": overview.shown_stages(views),
        "outcomes": overview.outcomes(found),
        "versions": found.versions.order_by("pk"),
        "after": last.pk if last else 0,
        "log": log_of(views),
        "events": found.events.select_related("by"),
        "section": "rounds",
    }
    return TemplateResponse(request, "rounds/round.html", context)


def log_of(views: list[overview.StageView]) -> str:
    """The end of the log of the stage that ran last."""
    started = [view.stage for view in views if view.stage.output]
    return tail(Path(started[-1].output) / "log.txt") if started else ""


@require_POST
@project_page("manage")
def round_cancel(request: HttpRequest, project: Project, number: int) -> HttpResponse:
    """Ask for a round's end."""
    found = get_object_or_404(project.rounds, number=number)
    try:
        ended = request_cancel(round=found, by=request.user)
    except RoundIsOver as refusal:
        messages.warning(request, str(refusal))
    else:
        done = ended.state == Round.State.CANCELLED
        messages.success(request, "The round is cancelled." if done else "The round is being stopped.")
    return redirect("round", project.slug, number)


@require_POST
@project_page("manage")
def round_resume(request: HttpRequest, project: Project, number: int) -> HttpResponse:
    """Let a round go on that failed or was cancelled."""
    try:
        resume_round(round=get_object_or_404(project.rounds, number=number), by=request.user)
    except LaunchRefused as refusal:
        messages.warning(request, str(refusal))
    else:
        messages.success(request, "The round goes on from its last saved state.")
    return redirect("round", project.slug, number)


@require_GET
@project_page("research")
def round_file(request: HttpRequest, project: Project, number: int, stage: str, name: str) -> HttpResponse:
    """The very file that a stage's latest attempt wrote: only names that we publish, in directories that rows name."""
    found = get_object_or_404(Stage, round__project=project, round__number=number, name=stage)
    path = Path(found.output) / name
    if name not in PUBLISHED or not found.output or not file_if_at_hand(path).is_file():
        raise Http404("there is no such file")
    return FileResponse(path.open("rb"), content_type=TYPES[path.suffix])
