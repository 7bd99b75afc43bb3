"""The heartbeats of this installation's processes, and the overview that `manage.py status` shows."""

import atexit
import os
import platform
import socket
import threading
from datetime import timedelta

import structlog
from django.db import DatabaseError, connection
from django.db.models import Count
from django.db.models.functions import Now
from django.utils import timezone

import labelapp
from labelapp.models import Process, Round, Slot

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


def withdraw(*, name: str) -> None:
    """Remove this process's row, unless a successor of the same name has taken it over."""
    Process.objects.filter(host=socket.gethostname(), name=name, pid=os.getpid()).delete()


def overview() -> dict:
    """Every process with the age of its last heartbeat in seconds, and how much work waits where."""
    now = timezone.now()
    return {
        "version": labelapp.__version__,
        "processes": [_described(process, now) for process in Process.objects.all()],
        "slots": _counts(Slot),
        "rounds": _counts(Round),
        "queues": queue_depths(),
    }


def _described(process: Process, now) -> dict:
    age = max(0.0, (now - process.heartbeat_at).total_seconds())
    return {
        "kind": process.kind,
        "name": process.name,
        "host": process.host,
        "pid": process.pid,
        "version": process.version,
        "detail": process.detail,
        "heartbeat_age_seconds": round(age, 1),
    }


def _counts(model) -> dict:
    rows = model.objects.order_by().values_list("state").annotate(n=Count("pk"))
    return dict(sorted(rows))


def queue_depths() -> dict | None:
    """Messages waiting in the broker by queue; None when the broker is away."""
    from django.conf import settings

    from labelapp.celery import app

    queues = {"default": settings.CELERY_TASK_DEFAULT_QUEUE, "training": settings.TRAINING_QUEUE}
    broker = app.connection_for_read()
    try:
        with broker:
            broker.connect()
            return {short: _depth(broker, name) for short, name in queues.items()}
    except (OSError, *broker.connection_errors) as error:
        log.warning("broker away", error=str(error))
        return None


def _depth(broker, queue: str) -> int:
    """Ask without declaring: a queue that nobody has used yet is empty."""
    with broker.channel() as channel:
        try:
            return channel.queue_declare(queue, passive=True).message_count
        except broker.channel_errors:
            return 0
