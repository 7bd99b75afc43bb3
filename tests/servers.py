"""Real processes for tests: granian, Celery and the engine on the test's own database, queues and sockets."""

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import quote

import httpx
from django.conf import settings
from django.db import connection

START_SECONDS = 120


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def test_database_url() -> str:
    """Write the address of the database this test uses as a DATABASE_URL for another process."""
    at = connection.settings_dict
    password = f":{quote(at['PASSWORD'])}" if at["PASSWORD"] else ""
    if at["HOST"].startswith("/"):
        return f"postgresql://{at['USER']}{password}@/{at['NAME']}?host={at['HOST']}"
    port = f":{at['PORT']}" if at["PORT"] else ""
    return f"postgresql://{at['USER']}{password}@{at['HOST']}{port}/{at['NAME']}"


def wait_until(condition: Callable[[], object], *, seconds: float = START_SECONDS, what: str = "the condition"):
    """Wait for something another process does and return it; the limit only ends a hanging test."""
    end = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < end, f"{what} did not come true within {seconds} s"
        time.sleep(0.05)
    return found


@contextlib.contextmanager
def running(*words: str, log: Path, **environ: str) -> Iterator[subprocess.Popen]:
    """Run a Python process in a group of its own on the test's database; the whole group is killed at the end."""
    environ = {**os.environ, "DATABASE_URL": test_database_url(), "LABELAPP_SUPERVISED": str(os.getpid()), **environ}
    with open(log, "wb") as out:
        process = subprocess.Popen(
            [sys.executable, *words], cwd=settings.BASE_DIR, env=environ, stdout=out, stderr=out, start_new_session=True
        )
    try:
        yield process
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def must_live(process: subprocess.Popen, log: Path) -> None:
    if process.poll() is not None:
        raise RuntimeError(f"the process ended ({process.returncode}):\n{log.read_text()[-4000:]}")


@contextlib.contextmanager
def web(log: Path, **environ: str) -> Iterator[str]:
    """Serve the application with granian as `up` does; yields the address without a slash at its end."""
    from labelapp.management.commands.up import web_command

    port = free_port()
    with running(*web_command("127.0.0.1", port, 1), log=log, **environ) as process:
        url = f"http://127.0.0.1:{port}"

        def answers():
            must_live(process, log)
            with contextlib.suppress(httpx.TransportError):
                return httpx.get(f"{url}/healthz").is_success

        wait_until(answers, what="the web server's first answer")
        yield url


@contextlib.contextmanager
def worker(log: Path, *queues: str, name: str, **environ: str) -> Iterator[subprocess.Popen]:
    """Run a Celery worker for these queues ("default", "training"); yields when it is ready."""
    from labelapp.management.commands.up import celery_command
    from labelapp.models import Process

    names = ",".join(f"{settings.NAMESPACE}{queue}" for queue in queues)
    quiet = ["--without-gossip", "--without-mingle"]
    words = celery_command("worker", "-Q", names, "-c", "1", "-n", f"{name}@test", *quiet)
    with running(*words, log=log, **environ) as process:

        def ready():
            must_live(process, log)
            return Process.objects.filter(name=f"{name}@test", pid=process.pid).exists()

        wait_until(ready, what="the worker's first heartbeat")
        yield process


@contextlib.contextmanager
def engine(log: Path) -> Iterator[subprocess.Popen]:
    """Run the engine on the test's socket; yields when it answers."""
    transport = httpx.HTTPTransport(uds=settings.ENGINE_SOCKET)
    with running("manage.py", "engine", log=log) as process:

        def answers():
            must_live(process, log)
            with contextlib.suppress(httpx.TransportError), httpx.Client(transport=transport) as client:
                return client.get("http://engine/healthz").is_success

        wait_until(answers, what="the engine's first answer")
        yield process


def purge_own_queues() -> None:
    """Empty the queues of this test run, which nobody else uses."""
    from labelapp.celery import app

    with app.connection_for_write() as broker:
        for queue in ("default", "training"):
            with contextlib.suppress(*broker.channel_errors), broker.channel() as channel:
                channel.queue_purge(f"{settings.NAMESPACE}{queue}")
