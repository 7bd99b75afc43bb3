"""Brings the engine's shelf in line with the tables: loads what is wanted, tells the tables, ends waiting switches."""

import gc
import threading
import time
from collections.abc import Callable
from typing import Any

import structlog
from django.db import DatabaseError, InterfaceError, connection
from django.db.models import QuerySet

from labelapp.models import Deployment, EngineVersion, Version
from labelapp.rounds.promote import activate_pending, fail_pending
from labelapp.rounds.resident import wanted_versions
from labelapp.serving.shelf import Shelf, fitting

log = structlog.get_logger(__name__)
POLL_SECONDS = 0.5
GRACE_SECONDS = 10.0  # a promotion that saw the READY row commits well within this
RETRY_SECONDS = 60.0  # a version that could not be loaded is tried again then, or when it is promoted again
NO_ROOM = "the engine has no room for it beside the versions that answer: give it more (ENGINE_MEMORY_MB)"

State = EngineVersion.State
Load = Callable[[str, str], Any]


class Keeper(threading.Thread):
    """Polls the tables. `load(path, digest)` makes a loaded version or raises `refusal` with a sentence."""

    def __init__(self, *, shelf: Shelf, load: Load, refusal: type[Exception], budget: int) -> None:
        super().__init__(name="keeper", daemon=True)
        self.shelf, self.load, self.refusal, self.budget = shelf, load, refusal, budget
        self.failed_at: dict[str, float] = {}  # by digest, in seconds of the monotonic clock
        self.unwanted_since: dict[str, float] = {}
        self.stopping = threading.Event()

    def run(self) -> None:
        while not self.stopping.is_set():
            try:
                self.poll()
            except (DatabaseError, InterfaceError) as error:
                log.warning("the database is away; what is loaded keeps answering", error=str(error).strip())
                connection.close()  # the next look opens a new one
            except Exception:
                log.exception("keeping failed; trying again")
                connection.close()
            self.stopping.wait(POLL_SECONDS)

    def poll(self) -> None:
        everything = wanted_versions()
        wanted = fitting(everything, self.budget)
        self.let_go_of_unwanted(wanted)
        for version in wanted:
            if self.shelf.get(version.digest):
                self.declare_ready(version)
            elif self.may_try(version):
                self.bring_in(version)
        for version in everything[len(wanted) :]:
            for deployment in waiting_for(version):
                fail_pending(deployment, version=version, error=NO_ROOM)

    def may_try(self, version: Version) -> bool:
        failed = self.failed_at.get(version.digest)
        return failed is None or time.monotonic() - failed > RETRY_SECONDS or waiting_for(version).exists()

    def bring_in(self, version: Version) -> None:
        """Load a version and end the switches that wait for it, one way or the other."""
        note(version, State.LOADING)
        log.info("loading", version=version.name)
        try:
            loaded = self.load(version.path, version.digest)
        except self.refusal as error:
            return self.give_up(version, str(error))
        except (MemoryError, RuntimeError) as error:
            return self.give_up(version, f"loading failed: {type(error).__name__}: {error}")
        self.failed_at.pop(version.digest, None)
        self.shelf.put(version.digest, loaded)
        self.declare_ready(version)

    def declare_ready(self, version: Version) -> None:
        """The row first, then the epoch: a switch may only point at what answers."""
        loaded = self.shelf.get(version.digest)
        if not EngineVersion.objects.filter(version=version, state=State.READY).exists():
            note(version, State.READY, load_seconds=loaded.load_seconds, canary=loaded.canary)
            log.info("ready", version=version.name, seconds=round(loaded.load_seconds, 2))
        for deployment in waiting_for(version):
            activate_pending(deployment)

    def give_up(self, version: Version, error: str) -> None:
        log.error("not servable", version=version.name, error=error)
        self.failed_at[version.digest] = time.monotonic()
        note(version, State.FAILED, error=error)
        for deployment in waiting_for(version):
            fail_pending(deployment, version=version, error=error)

    def let_go_of_unwanted(self, wanted: list[Version]) -> None:
        """Take back the READY row first; a promotion that read it just before brings the version back within the grace.

        Rows being answered keep a version in memory after it has left the shelf.
        """
        keep = {version.digest for version in wanted}
        EngineVersion.objects.exclude(version__in=wanted).delete()
        now = time.monotonic()
        gone = [digest for digest in self.shelf.digests() if digest not in keep]
        self.unwanted_since = {digest: self.unwanted_since.get(digest, now) for digest in gone}
        for digest, since in self.unwanted_since.items():
            if now - since > GRACE_SECONDS:
                self.shelf.remove(digest)
                gc.collect()  # a model and its decoder name each other
                log.info("unloaded", digest=digest[:12])


def note(version: Version, state: str, **facts: Any) -> None:
    """Write the version's row afresh."""
    blank = {"error": "", "load_seconds": None, "canary": ""}
    EngineVersion.objects.update_or_create(version=version, defaults={"state": state, **blank, **facts})


def waiting_for(version: Version) -> QuerySet[Deployment]:
    return Deployment.objects.filter(pending=version)


def forget_all() -> None:
    """A new engine holds nothing, whatever the last one wrote."""
    EngineVersion.objects.all().delete()
