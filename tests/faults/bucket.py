"""A bucket on a local S3 server, and machines that share nothing but it."""

import contextlib
import os
import shutil
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import httpx
import obstore

from labelapp import storage
from tests.servers import free_port, wait_until

KEYS = {"AWS_ACCESS_KEY_ID": "tests", "AWS_SECRET_ACCESS_KEY": "only"}


@contextlib.contextmanager
def s3_server(log: Path) -> Iterator[str]:
    """moto's server with an empty bucket called artifacts; its address."""
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    with open(log, "wb") as out:
        words = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
        server = subprocess.Popen(words, stdout=out, stderr=out, env={**os.environ, **KEYS})
    try:

        def answers():
            assert server.poll() is None, log.read_text()[-2000:]
            with contextlib.suppress(httpx.TransportError):
                return httpx.get(f"{url}/moto-api/").is_success

        wait_until(answers, what="the S3 server's first answer")
        urllib.request.urlopen(urllib.request.Request(f"{url}/artifacts", method="PUT")).close()
        yield url
    finally:
        server.kill()
        server.wait()


def another_machine(cache: Path) -> None:
    """Go on as a machine that has nothing in its cache."""
    shutil.rmtree(cache)
    cache.mkdir()


def flip_a_byte(name: str) -> None:
    """Change one byte of something in the bucket."""
    content = bytearray(bytes(obstore.get(storage.bucket(), name).bytes()))
    content[len(content) // 2] ^= 1
    obstore.put(storage.bucket(), name, bytes(content))
