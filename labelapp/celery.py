"""The Celery application, and how everybody else rings a task: by name, after commit."""

import functools
import os

import structlog
from celery import Celery
from django.db import transaction
from kombu.exceptions import OperationalError

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "labelapp.settings")
app = Celery("labelapp")
app.config_from_object("django.conf:settings", namespace="CELERY")
app.autodiscover_tasks(["labelapp"])
log = structlog.get_logger(__name__)


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
