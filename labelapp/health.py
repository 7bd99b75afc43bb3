"""/healthz says that the process is alive, /readyz that what it needs answers."""

import httpx
from django.conf import settings
from django.db import DatabaseError, connection
from django.db.migrations.executor import MigrationExecutor
from django.http import HttpRequest, JsonResponse

from labelapp.policy import never_cache

TIMEOUT = 2.0  # seconds for each part
_seen: set[str] = set()


@never_cache
def healthz(request: HttpRequest) -> JsonResponse:
    """Alive: asks nobody else."""
    return JsonResponse({"status": "alive"})


@never_cache
def readyz(request: HttpRequest) -> JsonResponse:
    """Ready: database with its migrations, broker and engine answer; 503 names what does not."""
    parts = {"database": database_fault(), "broker": broker_fault(), "engine": engine_fault()}
    faults = {name: fault for name, fault in parts.items() if fault}
    body = {"status": "not ready" if faults else "ready", **{name: fault or "ok" for name, fault in parts.items()}}
    return JsonResponse(body, status=503 if faults else 200)


def database_fault() -> str:
    """What is wrong with the database, or nothing."""
    try:
        with connection.cursor() as cursor:
            cursor.execute("SELECT 1")
        return "" if migrations_applied() else "migrations are missing: run manage.py migrate"
    except DatabaseError as error:
        return _first_line(error)


def migrations_applied() -> bool:
    """Whether no migration waits. Asked until it is so: the code does not change under a running process."""
    if "applied" not in _seen:
        executor = MigrationExecutor(connection)
        if executor.migration_plan(executor.loader.graph.leaf_nodes()):
            return False
        _seen.add("applied")
    return True


def broker_fault() -> str:
    """What is wrong with the broker, or nothing."""
    from labelapp.celery import app

    try:
        with app.connection_for_read(connect_timeout=TIMEOUT) as broker:
            broker.connect()
            broker.channel().close()
        return ""
    except Exception as error:  # each transport raises its own
        return _first_line(error)


def engine_fault() -> str:
    """What is wrong with the engine, or nothing."""
    transport = None if settings.ENGINE_URL else httpx.HTTPTransport(uds=settings.ENGINE_SOCKET)
    try:
        with httpx.Client(transport=transport, timeout=TIMEOUT) as client:
            client.get(f"{settings.ENGINE_URL or 'http://engine'}/healthz").raise_for_status()
        return ""
    except httpx.HTTPError as error:
        return _first_line(error)


def _first_line(error: Exception) -> str:
    return (str(error) or type(error).__name__).strip().splitlines()[0]
