"""The round page's event stream: progress, metrics, log and end, read from the tables and the log file.

A stream sleeps without a database connection, looks again every LOOK_SECONDS, and ends with the round, or when the
person's session or membership does. `metrics` events carry the last row's id, so a reconnect continues behind it.
"""

import asyncio
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from asgiref.sync import sync_to_async
from django.contrib.auth.decorators import login_required
from django.db import close_old_connections
from django.http import HttpRequest, StreamingHttpResponse
from django.shortcuts import get_object_or_404
from django.template.loader import render_to_string
from django.views.decorators.http import require_GET

from labelapp.accounts.permissions import MAY, require_project
from labelapp.models import Membership, MetricRow, Project, Round
from labelapp.rounds import overview
from labelapp.rounds.curves import StageCurves, curves_of
from labelapp.rounds.shown import shown_bytes
from labelapp.rounds.trainer import tail

LOOK_SECONDS = 0.5
QUIET_SECONDS = 15  # a comment this often, so that proxies do not close a silent stream
ROWS_AN_EVENT = 500


@dataclass
class Stream:
    """What one open page has been told so far."""

    round_id: int
    project: Project
    user_id: int
    session: Any
    after: int  # id of the last metric row that it knows
    curves: dict[int, StageCurves] = field(default_factory=dict)
    progress: str = ""
    log: tuple[int, int] = (0, 0)  # stage, bytes read
    samples: list[tuple[int, int]] = field(default_factory=list)  # stage, bytes read


@require_GET
@login_required
async def round_events(request: HttpRequest, slug: str, number: int) -> StreamingHttpResponse:
    stream = await sync_to_async(open_stream)(request, slug, number)
    headers = {"X-Accel-Buffering": "no", "Cache-Control": "no-cache"}
    return StreamingHttpResponse(tell(stream), content_type="text/event-stream", headers=headers)


def open_stream(request: HttpRequest, slug: str, number: int) -> Stream:
    """Raises Http404 for strangers and PermissionDenied where the role does not reach."""
    project = require_project(request.user, slug, "research").project
    found = get_object_or_404(project.rounds, number=number)
    known = request.headers.get("Last-Event-ID") or request.GET.get("after", "0")
    after = int(known) if known.isascii() and known.isdigit() and len(known) < 19 else 0
    return Stream(found.pk, project, request.user.pk, request.session, after)


async def tell(stream: Stream) -> AsyncIterator[str]:
    yield "retry: 2000\n\n"
    quiet = 0.0
    while True:
        events, goes_on = await sync_to_async(look)(stream)
        for event in events:
            yield event
        if not goes_on:
            return
        quiet = 0.0 if events else quiet + LOOK_SECONDS
        if quiet >= QUIET_SECONDS:
            yield ": still here\n\n"
            quiet = 0.0
        await asyncio.sleep(LOOK_SECONDS)


def look(stream: Stream) -> tuple[list[str], bool]:
    """What is new since the last look, and whether the stream goes on. Gives the connection back."""
    try:
        if not may_go_on(stream):
            return [], False
        found = Round.objects.get(pk=stream.round_id)
        views = overview.stage_views(found)
        metrics = new_metrics(stream)
        events = [*metrics, *new_log(stream, views), *new_samples(stream, views), *new_progress(stream, found, views)]
        over = overview.is_over(found) and not metrics  # with metrics there may be more: look once again
        return (events + ([event("end", {"state": found.state})] if over else []), not over)
    finally:
        close_old_connections()


def may_go_on(stream: Stream) -> bool:
    """Whether the person is still signed in and still a member who may look."""
    members = Membership.objects.filter(project=stream.project, role__in=MAY["research"])
    still_member = members.filter(user_id=stream.user_id, user__is_active=True).exists()
    return still_member and stream.session.exists(stream.session.session_key)


def new_metrics(stream: Stream) -> list[str]:
    """At most one event: the rows behind the last known one, and the curves that they move."""
    rows = MetricRow.objects.filter(stage__round=stream.round_id, pk__gt=stream.after).select_related("stage")
    rows = list(rows.order_by("pk")[:ROWS_AN_EVENT])
    if not rows:
        return []
    for row in rows:
        if row.stage_id not in stream.curves:
            stream.curves[row.stage_id] = curves_of(row.stage, upto=stream.after)
        stream.curves[row.stage_id].stage = row.stage  # its number of steps may have become known
        stream.curves[row.stage_id].add(row)
    stream.after = rows[-1].pk
    moved = {row.stage_id: row.stage.name for row in rows}
    data = {
        "rows": [{"stage": row.stage.name, "step": row.step, "values": row.values} for row in rows],
        "curves": {name: [d._asdict() for d in stream.curves[pk].draw()] for pk, name in moved.items()},
    }
    return [event("metrics", data, id=stream.after)]


def new_progress(stream: Stream, found: Round, views: list[overview.StageView]) -> list[str]:
    """The pipeline as HTML, when it is not what was sent last."""
    html = render_to_string("rounds/_progress.html", {"round": found, "views": views})
    if html == stream.progress:
        return []
    stream.progress = html
    return [event("progress", {"state": found.state, "moves": found.events.count(), "html": html})]


def new_samples(stream: Stream, views: list[overview.StageView]) -> list[str]:
    """What the policies write as HTML, when a file of theirs grew: read only then, as this looks twice a second."""
    sizes = [(view.stage.pk, size) for view in views if (size := shown_bytes(view.stage))]
    if sizes == stream.samples:
        return []
    stream.samples = sizes
    html = render_to_string("rounds/_samples.html", {"samples": overview.shown_stages(views)})
    return [event("samples", {"html": html})]


def new_log(stream: Stream, views: list[overview.StageView]) -> list[str]:
    """What the latest stage's log got; the whole tail when another stage began."""
    started = [view.stage for view in views if view.stage.output]
    if not started:
        return []
    path, (known, offset) = Path(started[-1].output) / "log.txt", stream.log
    size = path.stat().st_size if path.exists() else 0
    if known == started[-1].pk and size == offset:
        return []
    stream.log = (started[-1].pk, size)
    return [event("log", {"text": tail(path)})]


def event(name: str, data: dict, *, id: int | None = None) -> str:
    number = f"id: {id}\n" if id is not None else ""
    return f"event: {name}\n{number}data: {json.dumps(data, allow_nan=False)}\n\n"
