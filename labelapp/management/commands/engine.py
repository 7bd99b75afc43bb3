"""The engine's process: it alone holds models in memory and answers the gateway."""

import asyncio
import os
import signal
import socket
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
        refuse_a_second_engine()
        os.environ["OMP_NUM_THREADS"] = str(threads)
        os.environ.setdefault("HF_HUB_OFFLINE", "1")
        if settings.ENGINE_DEVICES:
            os.environ["CUDA_VISIBLE_DEVICES"] = ",".join(settings.ENGINE_DEVICES)
        heart = beat_heart("engine", os.environ.get("LABELAPP_PROCESS", "engine"), threads=threads)
        try:
            serve(threads)
        finally:
            if not settings.ENGINE_URL:
                Path(settings.ENGINE_SOCKET).unlink(missing_ok=True)
            heart.leave()


def refuse_a_second_engine() -> None:
    """Two would write each other's rows."""
    with socket.socket(socket.AF_UNIX) as probe:
        probe.settimeout(1)
        if not settings.ENGINE_URL and probe.connect_ex(settings.ENGINE_SOCKET) == 0:
            raise CommandError(f"An engine answers at {settings.ENGINE_SOCKET} already; stop it first.")


def open_door() -> socket.socket:
    """A listening socket; a unix one can be reached by this account alone, and replaces what a killed engine left."""
    if settings.ENGINE_URL:
        address = urlsplit(settings.ENGINE_URL)
        return socket.create_server((address.hostname or "127.0.0.1", address.port or 80))
    Path(settings.ENGINE_SOCKET).unlink(missing_ok=True)
    door = socket.socket(socket.AF_UNIX)
    mask = os.umask(0o177)
    try:
        door.bind(settings.ENGINE_SOCKET)
    finally:
        os.umask(mask)
    door.listen(256)
    return door


def serve(threads: int) -> None:
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
    door = open_door()  # not before the imports are done: who connects is answered
    batcher.start()
    keeper.start()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: None)  # uvicorn raises the signal again when it has stopped
    asyncio.run(uvicorn.Server(config).serve(sockets=[door]))
    keeper.stopping.set()
    batcher.drain(0)


def memory_budget() -> int:
    """Bytes for models: ENGINE_MEMORY_MB, or half of the machine's memory."""
    return settings.ENGINE_MEMORY_MB * 2**20 or psutil.virtual_memory().total // 2
