"""Ends a supervised process when its supervisor is gone, even by kill -9; on every system, whatever it is doing."""

import contextlib
import functools
import os
import signal
import threading
import time

import psutil

POLL_SECONDS = 1.0
GRACE_SECONDS = 4.0


@functools.cache  # every entry point calls it; one thread is enough
def follow_supervisor() -> None:
    """Watch the process whose pid LABELAPP_SUPERVISED names from a thread; without that variable do nothing."""
    if pid := os.environ.get("LABELAPP_SUPERVISED"):
        threading.Thread(target=_follow, args=[int(pid)], name="leash", daemon=True).start()


def _follow(pid: int) -> None:
    with contextlib.suppress(psutil.NoSuchProcess):
        supervisor = psutil.Process(pid)
        while supervisor.is_running() and supervisor.status() != psutil.STATUS_ZOMBIE:
            time.sleep(POLL_SECONDS)
    os.killpg(os.getpgrp(), signal.SIGTERM)  # the group: granian would replace a worker that ended alone
    time.sleep(GRACE_SECONDS)
    os.killpg(os.getpgrp(), signal.SIGKILL)  # a Celery worker would wait for its task
