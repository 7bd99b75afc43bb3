"""One stage as a subprocess: started, told to stop, killed, read."""

import json
import os
import subprocess
import sys
from pathlib import Path

from django.conf import settings

from labelapp.rounds.heartbeat import kill_group

STOP_SECONDS = 20  # a stage that is told to stop has this long to save its state
LAUNCHER = Path(__file__).with_name("die_with_parent.py")
SECRETS = {"DATABASE_URL", "BROKER_URL", "CACHE_URL", "SECRET_KEY", "EMAIL_URL", "TEST_DATABASE_URL", "TEST_BROKER_URL"}


def start(stage: str, job: Path, *, threads: int) -> subprocess.Popen:
    """Run `python -m alignment STAGE job.json` in a session of its own; it dies with this process."""
    program = [sys.executable, "-m", "alignment", stage, str(job)]
    with open(job.with_name("log.txt"), "ab") as log:
        log.write(f"$ python -m alignment {stage} {job}\n".encode())
        log.flush()
        return subprocess.Popen(
            [sys.executable, "-I", "-S", str(LAUNCHER), str(os.getpid()), *program],
            cwd=settings.BASE_DIR,
            env=environment(threads),
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )


def environment(threads: int) -> dict[str, str]:
    """The trainer reads files and nothing else: no database, no secret, no network look-up."""
    kept = {name: value for name, value in os.environ.items() if name not in SECRETS}
    fixed = {name: str(threads) for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")}
    offline = {"HF_HUB_OFFLINE": "1", "TRANSFORMERS_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false"}
    patient = {"OMP_WAIT_POLICY": "PASSIVE"}  # spinning threads starve each other where the cores are shared
    return kept | fixed | offline | patient | {"PYTHONUNBUFFERED": "1"}


def stop(child: subprocess.Popen) -> None:
    """Ask it to save and end; after STOP_SECONDS kill its whole group."""
    if child.poll() is None:
        child.terminate()
        try:
            child.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            kill(child)


def kill(child: subprocess.Popen) -> None:
    kill_group(child.pid)  # the group, not the process: a stage may have workers of its own
    child.wait()


def read_result(directory: Path) -> dict | None:
    """result.json, with numbers that are not finite as null (Postgres takes no NaN); None where there is none."""
    try:
        return read_json((directory / "result.json").read_text())
    except (OSError, ValueError):
        return None


def read_json(text: str):
    return json.loads(text, parse_constant=lambda name: None)


def read_new_lines(path: Path, offset: int) -> tuple[list[str], int]:
    """The complete lines behind the offset (in bytes), and the offset behind them."""
    if not path.exists():
        return [], offset
    with open(path, "rb") as stream:
        stream.seek(offset)
        new = stream.read()
    whole = new[: new.rfind(b"\n") + 1]
    return whole.decode(errors="replace").splitlines(), offset + len(whole)


def tail(path: Path, limit: int = 8000) -> str:
    """The last lines of a file, at most `limit` bytes of them."""
    try:
        with open(path, "rb") as stream:
            size = stream.seek(0, os.SEEK_END)
            stream.seek(max(0, size - limit))
            text = stream.read().decode(errors="replace")
    except OSError:
        return ""
    return text if size <= limit else text.partition("\n")[2]
