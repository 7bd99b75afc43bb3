"""The Celery application, and how everybody else rings a task: by name, after commit."""

import functools
import os

import structlog
from celery import Celery, signals
from django.conf import settings
from django.db import transaction
from kombu.exceptions import OperationalError

from labelapp.leash import follow_supervisor

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "labelapp.settings")
follow_supervisor()
app = Celery("labelapp")
app.config_from_object("django.conf:settings", namespace="CELERY")
app.autodiscover_tasks(["labelapp"])
log = structlog.get_logger(__name__)
_hearts = []


def ring(task: str, *ids) -> None:
    """Send a task by its name once the transaction is committed.

    A broker that is away loses only the ring: the row is the truth and the reconciler rings again.
    """
    transaction.on_commit(functools.partial(_send, task, ids))


def _send(task: str, ids: tuple) -> None:
    try:
        app.send_task(task, args=ids)
    except OperationalError as error:
        log.warning("ring lost", task=task, ids=ids, error=str(error))


@signals.worker_ready.connect
def _worker_lives(sender, **_) -> None:
    from labelapp.processes import beat_heart

    queues = sorted(sender.app.amqp.queues.consume_from)
    kind = "trainer" if settings.TRAINING_QUEUE in queues else "worker"
    _hearts.append(beat_heart(kind, sender.hostname, queues=queues))


@signals.beat_init.connect
def _beat_lives(sender, **_) -> None:
    from labelapp.processes import beat_heart

    _hearts.append(beat_heart("beat", os.environ.get("LABELAPP_PROCESS", f"beat-{os.getpid()}")))


@signals.worker_shutdown.connect
def _worker_leaves(**_) -> None:
    for heart in _hearts:
        heart.leave()
