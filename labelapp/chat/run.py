"""Generates a turn: asks its models at once, masks what they say, and stores it bit by bit for whoever looks.

One process runs a turn, the one that holds its `runner` token. Texts stand in the row before any page shows them, so a
vote can come to any process, and it ends the run: the next write finds the token gone, and the models are hung up on.
"""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import aclosing
from dataclasses import asdict, dataclass
from datetime import timedelta
from typing import NamedTuple
from uuid import UUID, uuid4

import structlog
from asgiref.sync import sync_to_async
from django.db import connections, transaction
from django.db.models import Q
from django.db.models.functions import Now
from django.utils.translation import gettext as _

from labelapp.chat import upstreams
from labelapp.chat.actions import State, sides_of
from labelapp.chat.mask import Masker, masker
from labelapp.chat.refusals import ModelFailed
from labelapp.models import ChatSide, ChatTurn
from labelapp.serving import gateway
from labelapp.serving.errors import ApiError
from labelapp.serving.protocol import Sampling

log = structlog.get_logger(__name__)
FLUSH_SECONDS = 0.2
LEASE = timedelta(seconds=15)
UNWATCHED = timedelta(seconds=10)  # a page that was left; a reload is back before
MOST_SECONDS = 180
MOST_CHARACTERS = 20_000
FAILED, CUT = "failed", "length"
running: set[asyncio.Task] = set()  # asyncio itself holds tasks weakly


class Heard(NamedTuple):
    """How far an answer has come at one moment."""

    said: str = ""
    finish: str = ""
    failure: str = ""


NOTHING = Heard()


@dataclass
class Voice:
    """One model's answer while it comes. What is stored is `taken`: a thread stores it while the loop hears more."""

    side: ChatSide
    masker: Masker
    said: str = ""
    finish: str = ""
    failure: str = ""
    taken: Heard = NOTHING
    stored: Heard = NOTHING
    settled: int = 0  # characters of what was said that nothing to come can change
    shown: str = ""

    def take(self) -> None:
        self.taken = Heard(self.said, self.finish, self.failure)

    def hear(self, text: str) -> None:
        """Take more text. Postgres holds neither NUL nor half a surrogate pair."""
        clean = text.replace("\0", "\ufffd").encode("utf-8", "replace").decode()
        self.said = (self.said + clean)[:MOST_CHARACTERS]

    def show(self) -> None:
        """Bring what is shown up to what nothing that follows can change."""
        said, finish, _failure = self.taken
        end = len(said) if finish else self.masker.settled(said, self.settled)
        self.shown += self.masker.masked(said, self.settled, end)
        self.settled = end

    def write(self) -> None:
        if self.stored == self.taken:
            return
        self.show()
        said, finish, _failure = self.stored = self.taken
        masked = self.shown != said[: self.settled]
        ChatSide.objects.filter(pk=self.side.pk).update(original=said, text=self.shown, masked=masked, finish=finish)


def in_thread(work: Callable) -> Callable:
    """A database function for async callers; its connection goes back at the end, for generation takes long."""

    def close_after(*args):
        try:
            return work(*args)
        finally:
            connections.close_all()

    return sync_to_async(close_after, thread_sensitive=False)


def claim(turn_id: int) -> UUID | None:
    """The token of whoever may run a waiting turn; None where it is not waiting."""
    token, now = uuid4(), Now()
    waiting = ChatTurn.objects.filter(pk=turn_id, state=State.WAITING)
    taken = waiting.update(state=State.RUNNING, runner=token, lease_until=now + LEASE, watched_at=now)
    return token if taken else None


def give_up_stale(turn_id: int) -> None:
    """A running turn whose process has died has failed."""
    stale = ChatTurn.objects.filter(pk=turn_id, state=State.RUNNING, lease_until__lt=Now())
    sentence = _("The server was interrupted while the answers were written.")
    stale.update(state=State.FAILED, error=sentence, runner=None, lease_until=None)


async def ensure_running(turn_id: int) -> None:
    """Run the turn in this process, unless somebody does or it is over."""
    if token := await in_thread(claim)(turn_id):
        task = asyncio.create_task(run(turn_id, token, watched=True))
        running.add(task)
        task.add_done_callback(running.discard)


async def run_to_end(turn_id: int) -> None:
    """For a page without script: return when the answers are complete, or have failed."""
    if token := await in_thread(claim)(turn_id):
        await run(turn_id, token, watched=False)


async def run(turn_id: int, token: UUID, *, watched: bool) -> None:
    """Generate until every answer is complete, one has failed, the turn was judged or ended, or nobody watches."""
    turn, voices = await in_thread(read)(turn_id)
    tasks = [asyncio.create_task(listen(voice, turn.messages)) for voice in voices]
    try:
        async with asyncio.timeout(MOST_SECONDS):
            goes_on = True
            while goes_on:
                await asyncio.wait(tasks, timeout=FLUSH_SECONDS, return_when=asyncio.ALL_COMPLETED)
                for voice in voices:
                    voice.take()
                goes_on = await in_thread(flush)(turn_id, token, voices, watched)
    except TimeoutError:
        await in_thread(fail)(turn_id, token, _("The answers took longer than %(n)d seconds.") % {"n": MOST_SECONDS})
    except Exception:
        log.exception("a chat turn broke", turn=turn_id)
        await in_thread(fail)(turn_id, token, _("The server failed while the answers were written."))
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def read(turn_id: int) -> tuple[ChatTurn, list[Voice]]:
    turn = ChatTurn.objects.get(pk=turn_id)
    names = masker(tuple(turn.masked_names))
    return turn, [Voice(side, names) for side in sides_of(turn)]


async def listen(voice: Voice, messages: list[dict]) -> None:
    """Hear one model to its end. What goes wrong becomes the voice's failure, in words that name no model."""
    try:
        async with aclosing(answer_of(voice.side, messages)) as events:
            async for event in events:
                voice.hear(event.get("text", ""))
                if len(voice.said) >= MOST_CHARACTERS or "finish" in event:
                    finish = event.get("finish", CUT)
                    break
            else:
                raise ModelFailed(_("its answer broke off"))
        if not voice.said.strip():
            raise ModelFailed(_("it said nothing"))
        voice.finish = finish
    except ModelFailed as error:
        log.warning("a chat model failed", side=voice.side.pk, model=voice.side.author, why=str(error))
        voice.finish, voice.failure = FAILED, error.reason
    except Exception:
        log.exception("a chat model broke", side=voice.side.pk, model=voice.side.author)
        voice.finish, voice.failure = FAILED, _("it failed")


def answer_of(side: ChatSide, messages: list[dict]) -> AsyncIterator[dict]:
    if side.upstream:
        return upstreams.stream(side.upstream, messages, side.sampling)
    return engine_stream(side, messages)


async def engine_stream(side: ChatSide, messages: list[dict]) -> AsyncIterator[dict]:
    """What upstreams.stream yields, from the engine. Raises ModelFailed."""
    try:
        answer = await ask_engine(side.version.digest, messages, side.sampling)
        try:
            async for event in answer.events():
                yield {"text": event.get("text", "")} | ({"finish": event["finish"]} if event.get("finish") else {})
        finally:
            await answer.close()
    except ApiError as error:
        reasons = {400: _("the conversation is too long for it"), 429: _("it is busy"), 503: _("it is not ready")}
        raise ModelFailed(reasons.get(error.status, _("it failed")), f"{error.code}: {error.message}") from error


async def ask_engine(digest: str, messages: list[dict], sampling: dict) -> gateway.Answer:
    """An accepted generation; where the usual length does not fit behind the prompt, as long as there is room."""
    body = {"version": digest, "prompts": [{"messages": messages}], "n": 1, "sampling": asdict(Sampling(**sampling))}
    try:
        return await gateway.generate(body)
    except ApiError as error:
        if error.code != "context_length_exceeded":
            raise
    return await gateway.generate(body | {"sampling": body["sampling"] | {"max_tokens": None}})


def flush(turn_id: int, token: UUID, voices: list[Voice], watched: bool) -> bool:
    """Store what is new, if the turn is still ours; whether it goes on."""
    with transaction.atomic():
        unwatched = Q(watched_at__lt=Now() - UNWATCHED)  # by the database's clock, which also wrote it
        turns = ChatTurn.objects.select_for_update().annotate(unwatched=unwatched)
        mine = turns.filter(pk=turn_id, runner=token, state=State.RUNNING).first()
        if mine is None:
            return False
        for voice in voices:
            voice.write()
        state, error = outcome(voices)
        if state is None and watched and mine.unwatched:
            state, error = State.FAILED, _("The page was left, so the answers were not written to their end.")
        over = {"state": state, "error": error, "runner": None, "lease_until": None}
        ChatTurn.objects.filter(pk=turn_id).update(**(over if state else {"lease_until": Now() + LEASE}))
        return state is None


def outcome(voices: list[Voice]) -> tuple[str | None, str]:
    """How the turn ends, and why if it failed; None while it goes on."""
    failed = [voice for voice in voices if voice.taken.failure]
    if failed:
        said = _("Response %(letter)s failed: %(why)s.")
        return State.FAILED, " ".join(said % {"letter": v.side.letter, "why": v.taken.failure} for v in failed)
    if not all(voice.taken.finish for voice in voices):
        return None, ""
    if len({voice.shown for voice in voices}) < len(voices):
        return State.FAILED, _("Two models gave the same answer, so there is nothing to compare.")
    return State.READY, ""


def fail(turn_id: int, token: UUID, sentence: str) -> None:
    mine = ChatTurn.objects.filter(pk=turn_id, runner=token, state=State.RUNNING)
    mine.update(state=State.FAILED, error=sentence, runner=None, lease_until=None)
