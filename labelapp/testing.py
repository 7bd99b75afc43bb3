"""A pytest plugin that gives a test run servers, a database, a queue namespace and files of its own.

It is loaded with `-p labelapp.testing`, before pytest-django reads the settings. Without TEST_DATABASE_URL and
TEST_BROKER_URL the servers are embedded ones without fsync under var/test. DATABASE_URL is never used, and on
servers of others nothing is touched but what this run made.

The whole suite runs in as many processes as there are cores, up to four; tests named by their paths run in one. `-n`
decides otherwise. Each process has a database, queues, cache keys, files and an engine socket of its own. `--faults`
runs the fault suite alone, with the long scenarios that are left out otherwise.
"""

import contextlib
import fcntl
import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from labelapp.embedded import BASE_DIR, DATABASE, Services

services = Services("test", durable=False)
own_database = not os.environ.get("TEST_DATABASE_URL")
own_broker = not os.environ.get("TEST_BROKER_URL")
MOST_PROCESSES = 4  # the embedded database takes 100 connections, and some tests open twenty
is_controller = "PYTEST_XDIST_WORKER" not in os.environ

# What a test run sets for itself, and nobody it starts as "a user" should inherit.
FOR_TESTS = {
    "ALLOWED_HOSTS", "ARTIFACT_DIR", "BROKER_URL", "CACHE_URL", "DATABASE_URL", "DB_POOL", "DEBUG", "ENGINE_SOCKET",
    "ENGINE_URL", "HASHED_STATIC", "LABELAPP_LOCAL", "LABELAPP_NAMESPACE", "LABELAPP_TEST_DATABASE", "SECRET_KEY",
}  # fmt: skip

if is_controller:
    run_id = f"{os.getpid():x}{os.urandom(2).hex()}"
    for name in FOR_TESTS:
        os.environ.pop(name, None)
    os.environ |= {
        "DATABASE_URL": os.environ.get("TEST_DATABASE_URL") or services.database_url,
        "BROKER_URL": os.environ.get("TEST_BROKER_URL") or services.broker_url,
        "LABELAPP_TEST_DATABASE": f"test_labelapp_{run_id}",
        "LABELAPP_NAMESPACE": f"test{run_id}-",
        "LABELAPP_LOCAL": "1",
        "SECRET_KEY": "for tests only",
        "ALLOWED_HOSTS": "localhost,127.0.0.1,testserver",
        "ARTIFACT_DIR": tempfile.mkdtemp(prefix="labelapp-test-"),
        "ENGINE_SOCKET": f"{tempfile.gettempdir()}/labelapp-{run_id}.sock",
        "HASHED_STATIC": "0",
        "TRAINING_THREADS": "1",  # tiny models: more threads on a busy machine wait for each other
        "OMP_NUM_THREADS": "1",
        "DJANGO_ALLOW_ASYNC_UNSAFE": "true",  # Playwright's sync API keeps an event loop in the test's thread
    }
else:  # workers of pytest-xdist share the servers and nothing else
    worker = os.environ["PYTEST_XDIST_WORKER"]
    os.environ["LABELAPP_NAMESPACE"] += f"{worker}-"
    os.environ["ENGINE_SOCKET"] += f".{worker}"
    os.environ["ARTIFACT_DIR"] += f"/{worker}"
    os.makedirs(os.environ["ARTIFACT_DIR"])

_open = contextlib.ExitStack()


def pytest_addoption(parser):
    parser.addoption("--faults", action="store_true", help="the fault suite alone, with its long scenarios")


def pytest_collection_modifyitems(config, items):
    """Leave out the long scenarios, or with --faults whatever is no scenario of the fault suite."""
    faults = config.getoption("faults")
    chosen = [item for item in items if item.get_closest_marker("faults" if faults else "long") is not None]
    left_out = [item for item in items if (item in chosen) != faults]
    if left_out:
        config.hook.pytest_deselected(items=left_out)
        items[:] = [item for item in items if item not in left_out]


@pytest.hookimpl(wrapper=True)
def pytest_cmdline_main(config):
    """Spread a whole suite; not in pytest-xdist's own processes, which come by here too and must start none."""
    named = config.args_source is config.ArgsSource.ARGS
    if is_controller and not named and config.getoption("numprocesses", default=0) is None:
        config.option.numprocesses = "logical"  # as many as pytest-xdist counts cores; none for --pdb
        config.option.maxprocesses = MOST_PROCESSES
    return (yield)


def pytest_sessionstart(session):
    if is_controller and not session.config.option.collectonly:
        _open.enter_context(services.held(database=own_database, broker=own_broker))
        if own_database:
            services.postgres.drop_databases("test_labelapp_", unless=_owner_lives)


def _owner_lives(database: str) -> bool:
    """Whether the test run that made this database is still there: its pid is in the name."""
    import psutil

    return psutil.pid_exists(int(database.split("_")[2][:-4], 16))


def copy_migrated_database() -> None:
    """Have this process's database copied from one that is migrated already, where the server is our own."""
    if own_database:
        from django.db import connections

        connections["default"].settings_dict["TEST"]["TEMPLATE"] = migrated_database()


def migrated_database() -> str:
    """The name of a database with all tables, made once for each state of the migrations."""
    name = f"migrated_{migrations_digest()}"
    with open(services.root / "migrated.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not services.postgres.accepts(name):
            services.postgres.drop_databases("migrated_", unless=lambda _: False)
            services.postgres.create_database("migrated_half")
            url = services.database_url.replace(f"/{DATABASE}?", "/migrated_half?")
            environ = os.environ | {"DATABASE_URL": url, "LABELAPP_SUPERVISED": str(os.getpid())}
            subprocess.run([sys.executable, "manage.py", "migrate", "-v0"], cwd=BASE_DIR, env=environ, check=True)
            services.postgres.rename_database("migrated_half", name)
    return name


def migrations_digest() -> str:
    """Names the content of every migration of every installed app."""
    from django.apps import apps

    digest = hashlib.sha256()
    for app in sorted(apps.get_app_configs(), key=lambda app: app.label):
        for file in sorted(Path(app.path, "migrations").glob("*.py")):
            digest.update(f"{app.label}/{file.name}".encode() + file.read_bytes())
    return digest.hexdigest()[:16]


def pytest_unconfigure(config):
    if is_controller:
        forget_broker_keys()
        shutil.rmtree(os.environ["ARTIFACT_DIR"], ignore_errors=True)
        _open.close()


def forget_broker_keys() -> None:
    """Remove this run's queues and cache keys from a broker that outlives it."""
    if own_broker:
        return
    url, namespace = os.environ["BROKER_URL"], os.environ["LABELAPP_NAMESPACE"]
    with contextlib.suppress(OSError):
        _forget_in_redis(url, namespace) if url.startswith("redis") else _forget_in_rabbitmq(url, namespace)


def _forget_in_redis(url: str, namespace: str) -> None:
    import redis

    with redis.Redis.from_url(url) as client:
        for key in client.scan_iter(f"*{namespace}*"):
            client.delete(key)


def _forget_in_rabbitmq(url: str, namespace: str) -> None:
    from kombu import Connection

    workers = ["", *(f"gw{number}-" for number in range(os.cpu_count() or 1))]
    with Connection(url) as connection:
        for worker in workers:
            for queue in ("default", "training"):
                connection.default_channel.queue_delete(f"{namespace}{worker}{queue}")
