"""The heartbeats of this installation's processes."""

import atexit
import os
import platform
import socket
import threading
from datetime import timedelta

import psutil
import structlog
from django.db import DatabaseError, connection
from django.db.models.functions import Now

import labelapp
from labelapp.models import Process

BEAT_SECONDS = 5
FORGET_AFTER = timedelta(hours=1)
log = structlog.get_logger(__name__)


class Heart(threading.Thread):
    """Reports this process every few seconds until it leaves; then the report is removed."""

    def __init__(self, *, kind: str, name: str, detail: dict) -> None:
        super().__init__(name="heart", daemon=True)
        self.report = {"kind": kind, "name": name, "detail": detail}
        self.leaving = threading.Event()

    def run(self) -> None:
        _once(forget_dead)
        while not self.leaving.is_set():
            _once(report, **self.report)
            self.leaving.wait(BEAT_SECONDS)
        _once(withdraw, name=self.report["name"])

    def leave(self) -> None:
        """Stop reporting and wait until the report is removed."""
        self.leaving.set()
        self.join(BEAT_SECONDS)


def beat_heart(kind: str, name: str, **detail) -> Heart:
    """Start reporting this process; it also leaves by itself when the interpreter ends."""
    heart = Heart(kind=kind, name=name, detail={"python": platform.python_version(), **detail})
    heart.start()
    atexit.register(heart.leave)
    return heart


def _once(write, **arguments) -> None:
    """Write one report; a database that is away is no reason to stop, and the connection is not kept."""
    try:
        write(**arguments)
    except DatabaseError as error:
        log.warning("heartbeat lost", error=str(error).strip())
    finally:
        connection.close()


def report(*, kind: str, name: str, detail: dict) -> None:
    """Write this process's row with the database's clock, and forget processes silent for an hour."""
    row = Process(
        kind=kind,
        name=name,
        host=socket.gethostname(),
        pid=os.getpid(),
        version=labelapp.__version__,
        detail=detail,
        heartbeat_at=Now(),
    )
    fields = ["kind", "pid", "version", "detail", "heartbeat_at"]
    Process.objects.bulk_create([row], update_conflicts=True, unique_fields=["host", "name"], update_fields=fields)
    Process.objects.filter(heartbeat_at__lt=Now() - FORGET_AFTER).delete()


def forget_dead() -> None:
    """Remove the rows of processes of this host that ended without a word."""
    for process in Process.objects.filter(host=socket.gethostname()):
        if not psutil.pid_exists(process.pid):
            process.delete()


def withdraw(*, name: str) -> None:
    """Remove this process's row, unless a successor of the same name has taken it over."""
    Process.objects.filter(host=socket.gethostname(), name=name, pid=os.getpid()).delete()
