"""What labelers feel: 40 of them at a human pace against `manage.py up`, while one of its rounds trains beside them."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil

from benchmarks import _queue_fill
from benchmarks._queue_run import ROOT, environment, free_port, percentiles, run_labelers, say, until
from labelapp.embedded import Services

LABELERS = 40
PACE = 20.0  # seconds from an item to its answer, half as many to half as many again
SLOTS = 10_000
DEMO = "convincing-arguments"


def measure(work: Path, seconds: float) -> dict[str, Any]:
    """Milliseconds from a submit to the next item, for `seconds` in which a round trained from begin to end."""
    os.environ["LABELAPP_VAR"] = str(work / "paced")
    services = Services("default")
    environ = environment(work / "paced") | {"LABELAPP_LOCAL": "1"}
    del environ["DB_POOL"]  # `up` gives the web one; a worker must not carry it over its fork
    with running_up(environ) as (port, up):
        people = [sys.executable, "-m", "benchmarks._queue_fill", str(LABELERS)]
        made = json.loads(subprocess.check_output(people, cwd=ROOT, env=environ))
        _queue_fill.fill(f"host='{services.run}' user=postgres dbname=labelapp", made, SLOTS)
        launch = [sys.executable, "manage.py", "launch", DEMO, "--by", "admin"]
        subprocess.run(launch, cwd=ROOT, env=environ, check=True, stdout=sys.stderr)
        until(lambda: trains(up), "the round's start")
        job = {"host": "127.0.0.1", "port": port, "path": f"/p/{_queue_fill.SLUG}/label/", "flow": "page"}
        run = run_labelers(job | {"people": made["people"], "seconds": seconds, "pace": PACE})
        still = trains(up)
    for error in run["errors"][:3]:
        say(error)
    counts = {"judgments": len(run["loops"]), "errors": len(run["errors"]), "seconds": seconds}
    return percentiles(run["loops"]) | counts | {"trained_throughout": still}


@contextlib.contextmanager
def running_up(environ: dict[str, str]) -> Iterator[tuple[int, int]]:
    """The whole application as a newcomer runs it; its port and process id."""
    port = free_port()
    words = [sys.executable, "manage.py", "up", "--port", str(port)]
    process = subprocess.Popen(words, cwd=ROOT, env=environ, stdout=sys.stderr, start_new_session=True)
    try:
        until(lambda: is_up(port), "the start of `up`", seconds=300)
        yield port, process.pid
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(60)


def is_up(port: int) -> bool:
    with contextlib.suppress(OSError):
        return urllib.request.urlopen(f"http://127.0.0.1:{port}/healthz", timeout=1).status == 200
    return False


def trains(up: int) -> bool:
    """Whether a stage of a round is at work below `up`."""
    for process in psutil.Process(up).children(recursive=True):
        with contextlib.suppress(psutil.NoSuchProcess):
            if "alignment" in process.cmdline():
                return True
    return False
