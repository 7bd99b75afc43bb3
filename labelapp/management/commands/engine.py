"""The engine's process: it alone holds models in memory and answers the gateway."""

import asyncio
import os
import signal
import socket
from contextlib import suppress
from pathlib import Path
from urllib.parse import urlsplit

import psutil
from django.conf import settings
from django.core.management.base import BaseCommand, CommandError

from labelapp.processes import beat_heart


class Command(BaseCommand):
    help = "Run the engine: hold the versions that are wanted and answer for /v1 on ENGINE_SOCKET or ENGINE_URL."

    def add_arguments(self, parser) -> None:
        parser.add_argument("--threads", type=int, default=settings.ENGINE_THREADS, help="CPU threads for torch.")

    def handle(self, *, threads: int, **options) -> None:
        door = open_door()
        os.environ["OMP_NUM_THREADS"] = str(threads)
        os.environ.setdefault("HF_HUB_OFFLINE", "1")
        heart = beat_heart("engine", "engine", threads=threads)
        try:
            serve(door, threads)
        finally:
            close_door(door)
            heart.leave()


def open_door() -> socket.socket:
    """A listening socket that only this account can reach; a path left by a killed engine is replaced."""
    if settings.ENGINE_URL:
        address = urlsplit(settings.ENGINE_URL)
        return socket.create_server((address.hostname or "127.0.0.1", address.port or 80))
    place = Path(settings.ENGINE_SOCKET)
    if answers(place):
        raise CommandError(f"An engine answers at {place} already; stop it first.")
    place.unlink(missing_ok=True)
    door = socket.socket(socket.AF_UNIX)
    mask = os.umask(0o177)
    try:
        door.bind(str(place))
    finally:
        os.umask(mask)
    door.listen(256)
    return door


def answers(place: Path) -> bool:
    with socket.socket(socket.AF_UNIX) as probe:
        probe.settimeout(1)
        return probe.connect_ex(str(place)) == 0


def close_door(door: socket.socket) -> None:
    if door.family == socket.AF_UNIX:
        Path(door.getsockname()).unlink(missing_ok=True)
    door.close()


def serve(door: socket.socket, threads: int) -> None:
    """Run until SIGTERM or SIGINT; requests that are being answered get five more seconds."""
    import torch
    import uvicorn

    from labelapp.serving.batcher import Batcher
    from labelapp.serving.engine import Loaded, NotServable, rows_for
    from labelapp.serving.engine_http import EngineHttp
    from labelapp.serving.keeper import Keeper, forget_all
    from labelapp.serving.shelf import Shelf

    torch.set_num_threads(threads)
    shelf = Shelf()
    batcher = Batcher(active=settings.ENGINE_ACTIVE_ROWS, waiting=settings.ENGINE_WAITING_ROWS)
    keeper = Keeper(shelf=shelf, load=Loaded, refusal=NotServable, budget=memory_budget())
    app = EngineHttp(shelf=shelf, batcher=batcher, rows_for=rows_for)
    config = uvicorn.Config(app, lifespan="off", log_config=None, access_log=False, timeout_graceful_shutdown=5)
    forget_all()
    batcher.start()
    keeper.start()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: None)  # uvicorn raises the signal again when it has stopped
    with suppress(KeyboardInterrupt):
        asyncio.run(uvicorn.Server(config).serve(sockets=[door]))
    keeper.stopping.set()
    batcher.drain(0)


def memory_budget() -> int:
    """Bytes for models: ENGINE_MEMORY_MB, or half of the machine's memory."""
    return settings.ENGINE_MEMORY_MB * 2**20 or psutil.virtual_memory().total // 2
