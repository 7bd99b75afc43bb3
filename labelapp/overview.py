"""What `manage.py status` shows: processes, and how much work waits where."""

import structlog
from django.conf import settings
from django.db.models import Count
from django.utils import timezone

import labelapp
from labelapp.celery import app
from labelapp.models import Process, Round, Slot

log = structlog.get_logger(__name__)


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
