"""Runs all of Labelapp on this machine as one process tree: servers, web, workers, schedule and engine."""

import contextlib
import fcntl
import io
import os
import signal
import socket
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator

from django.conf import settings
from django.core.management import call_command
from django.core.management.base import BaseCommand, CommandError
from django.db import OperationalError, connection

from labelapp import embedded
from labelapp.demo.load import LOGINS
from labelapp.supervisor import Child, Supervisor

MIGRATION_LOCK = 0x1ABE1A99  # any number that only we use
LOOPBACK = {"127.0.0.1", "localhost", "::1"}
WATCH_SECONDS = 3
WEB_FIRST_SECONDS = 10


class Command(BaseCommand):
    help = __doc__
    requires_system_checks = []

    def add_arguments(self, parser):
        parser.add_argument("--host", default="127.0.0.1")
        parser.add_argument("--port", type=int, default=8000)
        parser.add_argument("--workers", type=int, default=1, help="web processes")
        parser.add_argument("--no-demo", action="store_true", help="load neither the demo project nor its people")

    def handle(self, *, host, port, workers, no_demo, **_):
        for number in (signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, signal.default_int_handler)
        refuse_host(host)
        refuse_taken_port(host, port)
        # Everybody knows the demo's passwords: they stay off addresses that others reach and off databases of others.
        demo = not no_demo and host in LOOPBACK and not os.environ.get("DATABASE_URL")
        try:
            self.say("Starting the database and the broker ...")
            with embedded.held_default(), first_up_here() as first:
                self.prepare(demo)
                self.supervise(host, port, workers, demo=demo, first=first)
        except embedded.EmbeddedError as error:
            raise CommandError(str(error)) from None
        except OperationalError as error:
            raise CommandError(f"The database does not answer: {str(error).strip().splitlines()[0]}") from None
        except KeyboardInterrupt:
            pass
        self.say("Stopped.")

    def say(self, text: str) -> None:
        self.stdout.write(text)
        self.stdout.flush()

    def prepare(self, demo: bool) -> None:
        """Bring tables, files and the demo up to date; of several starts at once one works and the others wait."""
        with advisory_lock():
            self.say("Bringing the tables up to date ...")
            call_command("migrate", verbosity=0, interactive=False)
            if not settings.DEBUG:
                call_command("collectstatic", verbosity=0, interactive=False)
            if demo:
                self.say("Loading the demo ...")
                call_command("load_demo", stdout=io.StringIO())  # its people are named once the page answers
        connection.close()

    def supervise(self, host: str, port: int, workers: int, *, demo: bool, first: bool) -> None:
        greeting = Greeting(host, port, demo=demo, say=self.say)
        supervisor = Supervisor(
            process_groups(host, port, workers, first=first),
            cwd=settings.BASE_DIR,
            say=self.say,
            may_start=lambda child: child.name == "web" or greeting.over(),
        )
        self.say(f"Starting {', '.join(child.name for child in supervisor.children())} ...")
        supervisor.run([greeting.tick, ServerWatch(self.say).tick])


def process_groups(host: str, port: int, workers: int, *, first: bool) -> list[list[Child]]:
    """Name the processes in the order they end: what takes requests first, then what works, then what answers.

    A second `up` of the same checkout gets names, an engine socket and a schedule file of its own.
    """
    suffix = "" if first else f"-{port}"
    services = embedded.Services()
    common = {"LOG_LEVEL": os.environ.get("LOG_LEVEL", "WARNING")}
    if not first:
        common["ENGINE_SOCKET"] = str(services.run / f"engine{suffix}.sock")

    def child(name: str, *command: str, environ: dict | None = None, **options) -> Child:
        environ = {**common, "LABELAPP_PROCESS": name + suffix, **(environ or {})}
        return Child(name, [sys.executable, *command], environ, **options)

    def worker(name: str, queue: str, size: int, **options) -> Child:
        words = celery_command("worker", "--without-gossip", "--without-mingle", "-Q", queue, "-c", str(size))
        return child(name, *words, "-n", f"{name}{suffix}@%h", **options)

    schedule = str(services.root / f"beat{suffix}")
    web_environ = {"DB_POOL": "1", "LABELAPP_ADDRESS": address(host, port)}
    front = [
        child("beat", *celery_command("beat", "--pidfile=", "-s", schedule)),
        child("web", *web_command(host, port, workers), environ=web_environ),
    ]
    work = [
        worker("worker", settings.CELERY_TASK_DEFAULT_QUEUE, 2),
        worker("trainer", settings.TRAINING_QUEUE, 1, grace=20),
    ]
    engine = [child("engine", str(settings.BASE_DIR / "manage.py"), "engine")]
    return [front, work, engine]


def celery_command(*words: str) -> list[str]:
    """Celery without its banner and without its warning to root, for whom the embedded default is made too."""
    python = ["-W", "ignore:You're running the worker", "-m", "celery"]
    return [*python, "-q", "-A", "labelapp.celery", *words, "-l", "WARNING"]


def web_command(host: str, port: int, workers: int) -> list[str]:
    return [
        "-m", "granian", "--interface", "asginl", "--host", host, "--port", str(port), "--workers", str(workers),
        "--respawn-failed-workers", "--workers-kill-timeout", "5", "--log-level", "warning",
        "labelapp.asgi:application",
    ]  # fmt: skip


def address(host: str, port: int) -> str:
    """Where a browser on this machine finds the pages."""
    return f"http://{'127.0.0.1' if host == '0.0.0.0' else host}:{port}"


class Greeting:
    """Says where the application is, once its first page answers."""

    def __init__(self, host: str, port: int, *, demo: bool, say: Callable[[str], None]) -> None:
        self.url = address(host, port) + "/"
        self.demo, self.say, self.done = demo, say, False
        self.until = time.monotonic() + WEB_FIRST_SECONDS

    def over(self) -> bool:
        """Whether the others need wait no longer for the page."""
        return self.done or time.monotonic() > self.until

    def tick(self) -> None:
        if self.done or not answers(f"{self.url}healthz"):
            return
        self.done = True
        self.say(f"\nLabelapp is at {self.url}  (Ctrl-C stops everything)")
        for role, username, password in LOGINS if self.demo else []:
            self.say(f"  {role:<11} {username} / {password}")


class ServerWatch:
    """Starts the embedded servers again when they are gone."""

    def __init__(self, say: Callable[[str], None]) -> None:
        self.say, self.next = say, time.monotonic() + WATCH_SECONDS

    def tick(self) -> None:
        if time.monotonic() < self.next:
            return
        try:
            started = embedded.ensure_default()
        except embedded.EmbeddedError as error:
            self.say(str(error))
        else:
            for name in sorted(started):
                self.say(f"{name} was gone; started again.")
        self.next = time.monotonic() + WATCH_SECONDS


def answers(url: str) -> bool:
    try:
        urllib.request.urlopen(url, timeout=1).close()
    except urllib.error.HTTPError:
        return True
    except OSError:
        return False
    return True


def refuse_host(host: str) -> None:
    if host not in LOOPBACK and not os.environ.get("ALLOWED_HOSTS"):
        raise CommandError(f"--host {host} serves other machines: name the hosts they use in ALLOWED_HOSTS first.")


def refuse_taken_port(host: str, port: int) -> None:
    """Ask before anything is started; the web server itself would be restarted for ever."""
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            why = f"Port {port} of {host} cannot be used ({error.strerror})"
            raise CommandError(f"{why}: stop what uses it, or choose another port with --port.") from None


@contextlib.contextmanager
def first_up_here() -> Iterator[bool]:
    """Whether no other `up` of this checkout runs, which then also owns the engine's usual socket."""
    services = embedded.Services()
    services.make_places()
    with open(services.root / "up.lock", "a") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
        else:
            yield True


@contextlib.contextmanager
def advisory_lock() -> Iterator[None]:
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_advisory_lock(%s)", [MIGRATION_LOCK])
        try:
            yield
        finally:
            cursor.execute("SELECT pg_advisory_unlock(%s)", [MIGRATION_LOCK])
