"""Real processes on the test's database and broker: a Celery worker and web servers."""

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from urllib.parse import urlsplit

from django.conf import settings
from django.db import connection

from labelapp.models import Round


def environment() -> dict[str, str]:
    """The test run's environment, with the test database in the place of the server's default one."""
    url = urlsplit(os.environ["DATABASE_URL"])._replace(path=f"/{connection.settings_dict['NAME']}").geturl()
    return {**os.environ, "DATABASE_URL": url, "TRAINING_THREADS": "1", "OMP_NUM_THREADS": "1"}


def start(*command: str) -> subprocess.Popen:
    return subprocess.Popen(
        [sys.executable, "-m", *command], env=environment(), cwd=settings.BASE_DIR, start_new_session=True
    )


def kill(process: subprocess.Popen, sig: int = signal.SIGKILL) -> None:
    """End the whole group, as a power cut would; SIGTERM asks the leader only."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, sig) if sig == signal.SIGKILL else process.send_signal(sig)
    process.wait(30)


def start_worker() -> subprocess.Popen:
    return start(
        "celery", "-A", "labelapp", "worker", "-Q", settings.TRAINING_QUEUE, "-c", "1", "--without-gossip",
        "--without-mingle", "-n", f"test-{os.urandom(4).hex()}@localhost", "-l", "warning",
    )  # fmt: skip


@contextlib.contextmanager
def worker() -> Iterator[subprocess.Popen]:
    process = start_worker()
    try:
        yield process
    finally:
        kill(process)


@contextlib.contextmanager
def web() -> Iterator[str]:
    """A granian server as `up` starts it; gives its address."""
    port = free_port()
    process = start(
        "granian", "--interface", "asginl", "--host", "127.0.0.1", "--port", str(port), "--workers", "1",
        "--workers-kill-timeout", "1", "--log-level", "warning", "labelapp.asgi:application",
    )  # fmt: skip
    try:
        wait_until(lambda: answers(f"http://127.0.0.1:{port}/accounts/login/"), seconds=60)
        yield f"http://127.0.0.1:{port}"
    finally:
        kill(process)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def answers(url: str) -> bool:
    try:
        return urllib.request.urlopen(url, timeout=5).status == 200
    except OSError:
        return False


def wait_until(true: Callable[[], bool], *, seconds: float = 120) -> None:
    """Look until it is so. The limit is a net for hangs, not a demand on speed."""
    deadline = time.monotonic() + seconds
    while not true():
        if time.monotonic() > deadline:
            raise TimeoutError("what was waited for did not come")
        time.sleep(0.1)


def wait_for(round: Round, *states: str, seconds: float = 120) -> Round:
    def reached() -> bool:
        round.refresh_from_db()
        return round.state in states

    wait_until(reached, seconds=seconds)
    return round
