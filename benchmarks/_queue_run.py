"""Processes, waiting and figures of the queue's benchmark."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import psutil

ROOT = Path(__file__).parents[1]


def environment(work: Path) -> dict[str, str]:
    """Nothing of the user's: servers, sockets and files below `work`."""
    kept = {name: value for name, value in os.environ.items() if not name.endswith("_URL")}
    return kept | {
        "LABELAPP_VAR": str(work), "LABELAPP_SUPERVISED": str(os.getpid()), "LOG_LEVEL": "ERROR", "DB_POOL": "1",
        "DJANGO_SETTINGS_MODULE": "labelapp.settings", "SECRET_KEY": "of a benchmark", "ALLOWED_HOSTS": "127.0.0.1",
        "HASHED_STATIC": "1", "STATIC_ROOT": str(work / "files"), "ARTIFACT_DIR": str(work / "artifacts"),
        "PYTHONWARNINGS": "ignore",
    }  # fmt: skip


def run_labelers(job: dict[str, Any]) -> dict[str, Any]:
    words = [sys.executable, "-m", "benchmarks._queue_load"]
    done = subprocess.run(words, cwd=ROOT, input=json.dumps(job), stdout=subprocess.PIPE, text=True, check=True)
    return json.loads(done.stdout)


def percentiles(seconds: list[float]) -> dict[str, float | None]:
    if len(seconds) < 2:
        return dict.fromkeys(("p50_ms", "p95_ms", "p99_ms"))
    cuts = statistics.quantiles(seconds, n=100, method="inclusive")
    return {f"p{share}_ms": round(1000 * cuts[share - 1], 1) for share in (50, 95, 99)}


def mean(runs: list[dict], name: str) -> float:
    values = [value for run in runs for value in run[name]]
    return statistics.mean(values) if values else 0


def ratio(one: float | None, other: float | None) -> float | None:
    return round(one / other, 3) if one and other else None


def cpu_seconds(pid: int) -> float:
    """CPU time that a process and its children have used."""
    family = [psutil.Process(pid), *psutil.Process(pid).children(recursive=True)]
    return sum(sum(member.cpu_times()[:2]) for member in family)


def rss_mib(pid: int) -> float:
    """Resident memory of a process and its children."""
    family = [psutil.Process(pid), *psutil.Process(pid).children(recursive=True)]
    return round(sum(member.memory_info().rss for member in family) / 2**20, 1)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def answers(port: int) -> bool:
    with contextlib.suppress(OSError):
        socket.create_connection(("127.0.0.1", port), 1).close()
        return True
    return False


def until(true: Any, what: str, seconds: float = 120) -> None:
    end = time.monotonic() + seconds
    while not true():
        if time.monotonic() > end:
            raise TimeoutError(f"{what} took more than {seconds} s")
        time.sleep(0.1)


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)
