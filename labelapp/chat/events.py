"""A turn's event stream: what each answer got, when it is complete, and how the turn ended. One stream for all sides.

It reads the rows, so it follows a turn that another process runs, and a reconnect goes on where the last one ended. An
event's id is the attempt and the length of each text, such as 1-120-88.
"""

import asyncio
import json
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any

from asgiref.sync import sync_to_async
from django.contrib.auth.decorators import login_required
from django.db import connections
from django.db.models.functions import Now
from django.http import Http404, HttpRequest, StreamingHttpResponse
from django.views.decorators.http import require_GET

from labelapp.accounts.permissions import MAY, require_project
from labelapp.chat.actions import State, sides_of
from labelapp.chat.run import FAILED, ensure_running, give_up_stale, in_thread
from labelapp.labeling.text.render import render_markdown
from labelapp.models import ChatTurn, Membership, Project

LOOK_SECONDS = 0.2
CHECK_SECONDS = 3  # how often the stream says that it watches, and asks whether its reader still may
QUIET_SECONDS = 15


@dataclass
class Stream:
    """What one open page has been told so far."""

    turn_id: int
    project: Project
    user_id: int
    session: Any
    attempt: int = 0
    lengths: dict[int, int] = field(default_factory=dict)  # by place
    finished: set[int] = field(default_factory=set)
    checked: float = float("-inf")


@require_GET
@login_required
async def turn_events(request: HttpRequest, slug: str, turn: int) -> StreamingHttpResponse:
    stream = await sync_to_async(open_stream)(request, slug, turn)
    await sync_to_async(connections.close_all)()  # the sign-in's, which would be held until the stream ends
    headers = {"X-Accel-Buffering": "no", "Cache-Control": "no-cache"}
    return StreamingHttpResponse(tell(stream), content_type="text/event-stream", headers=headers)


def open_stream(request: HttpRequest, slug: str, turn: int) -> Stream:
    """Raises Http404 for strangers and for turns of others, and PermissionDenied where the role does not reach."""
    project = require_project(request.user, slug, "label").project
    mine = ChatTurn.objects.filter(pk=turn, labeler=request.user, conversation__project=project)
    if not mine.exists():
        raise Http404("no such turn")
    stream = Stream(turn, project, request.user.pk, request.session)
    known = (request.headers.get("Last-Event-ID") or request.GET.get("after", "")).split("-")
    if all(part.isascii() and part.isdigit() and len(part) < 9 for part in known):
        stream.attempt, stream.lengths = int(known[0]), dict(enumerate(map(int, known[1:])))
    return stream


async def tell(stream: Stream) -> AsyncIterator[str]:
    yield "retry: 1000\n\n"
    await ensure_running(stream.turn_id)
    spoke = time.monotonic()
    while True:
        events, goes_on = await in_thread(look)(stream)
        for event in events:
            yield event
            spoke = time.monotonic()
        if not goes_on:
            return
        if time.monotonic() - spoke >= QUIET_SECONDS:
            yield ": still here\n\n"
            spoke = time.monotonic()
        await asyncio.sleep(LOOK_SECONDS)


def look(stream: Stream) -> tuple[list[str], bool]:
    """What is new since the last look, and whether the stream goes on."""
    if time.monotonic() - stream.checked >= CHECK_SECONDS:
        stream.checked = time.monotonic()
        if not may_go_on(stream):
            return [], False
        ChatTurn.objects.filter(pk=stream.turn_id).update(watched_at=Now())
        give_up_stale(stream.turn_id)
    turn = ChatTurn.objects.get(pk=stream.turn_id)  # before its answers: when it is over, they are complete
    if turn.attempt != stream.attempt:
        stream.attempt, stream.lengths, stream.finished = turn.attempt, {}, set()
    events = new_texts(stream, turn) if turn.state in (State.RUNNING, State.READY) else []
    over = turn.state not in (State.WAITING, State.RUNNING)
    return events + ([event("end", {"state": turn.state})] if over else []), not over


def may_go_on(stream: Stream) -> bool:
    """Whether the person is still signed in and still a member who may label."""
    members = Membership.objects.filter(project=stream.project, role__in=MAY["label"])
    still_member = members.filter(user_id=stream.user_id, user__is_active=True).exists()
    return still_member and stream.session.exists(stream.session.session_key)


def new_texts(stream: Stream, turn: ChatTurn) -> list[str]:
    events = []
    for side in sides_of(turn):
        known = min(stream.lengths.get(side.place, 0), len(side.text))
        stream.lengths[side.place] = len(side.text)
        if known < len(side.text):
            events.append(("delta", {"place": side.place, "at": known, "text": side.text[known:]}))
        if side.finish and side.finish != FAILED and side.place not in stream.finished:
            stream.finished.add(side.place)
            events.append(("finished", {"place": side.place, "html": render_markdown(side.text)}))
    number = position(stream.attempt, [stream.lengths[place] for place in sorted(stream.lengths)])
    return [event(name, data, id=number) for name, data in events]


def position(attempt: int, lengths: list[int]) -> str:
    """How far a page has come, as an event's id says it."""
    return "-".join(map(str, [attempt, *lengths]))


def event(name: str, data: dict, *, id: str | None = None) -> str:
    number = f"id: {id}\n" if id is not None else ""
    return f"event: {name}\n{number}data: {json.dumps(data, allow_nan=False)}\n\n"
