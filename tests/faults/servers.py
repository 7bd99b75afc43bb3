"""A broker that may be stopped, and beats that hurry."""

import contextlib
import itertools
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

from labelapp.embedded.valkey import Valkey
from labelapp.management.commands.up import celery_command
from tests import servers

_number = itertools.count(1)


@contextlib.contextmanager
def own_broker() -> Iterator[tuple[Valkey, str]]:
    """A broker of this test alone, without a file behind it, and its address; it is down at first."""
    with tempfile.TemporaryDirectory(prefix="broker-") as folder:  # a socket's path must be short
        place = Path(folder)
        place.chmod(0o777)  # the server may run under an account of its own
        broker = Valkey(place / "data", place / "valkey.sock", place / "valkey.log", durable=False)
        try:
            yield broker, f"redis+socket://{broker.socket}"
        finally:
            broker.stop()


@contextlib.contextmanager
def beat(log: Path, **environ: str) -> Iterator[subprocess.Popen]:
    """A beat with tests.faults.hasty for its settings."""
    words = celery_command("beat", "--pidfile=", "-s", str(log.with_suffix(f".{next(_number)}.schedule")))
    with servers.running(*words, log=log, DJANGO_SETTINGS_MODULE="tests.faults.hasty", **environ) as process:
        yield process
