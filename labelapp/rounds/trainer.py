"""One stage as a subprocess: started, told to stop, killed, read."""

import json
import os
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

from django.conf import settings

from labelapp.launching import launched
from labelapp.rounds.heartbeat import FENCE_SECONDS, kill_group

STOP_SECONDS = 20  # a stage that is told to stop has this long to save its state
LAST_WORDS_SECONDS = 2  # a launcher has this long to bring the rest of a trainer's output
DIE_WITH_PARENT = Path(__file__).with_name("die_with_parent.py")
FAR_END = Path(__file__).with_name("far_end.py")
SECRETS = {
    "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "BROKER_URL", "CACHE_URL", "DATABASE_URL",
    "EMAIL_URL", "SECRET_KEY", "TEST_BROKER_URL", "TEST_DATABASE_URL",
}  # fmt: skip


class Trainer:
    """A stage's process here, or the launcher in whose hands it is: told to stop, killed, kept alive by heartbeats."""

    def __init__(self, process: subprocess.Popen, folder: Path):
        self.process, self.folder, self.pid = process, folder, process.pid
        self.link = process.stdin  # to the far end of a launcher

    def over(self) -> bool:
        """Whether it ended; the far end says so on the shared disk, even where a launcher hangs."""
        return self.process.poll() is not None or bool(self.link and read_far(self.folder, "ended.json"))

    def pulse(self) -> None:
        """Let a far end know that the lease was prolonged."""
        self._say(b"\n")

    def stop(self) -> None:
        """Ask it to save and end; after STOP_SECONDS kill it."""
        if self.over():
            return
        self._say(b"stop\n") if self.link else self.process.terminate()
        try:
            self.process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self.kill()

    def cut(self) -> None:
        """Kill its whole group: a stage may have workers of its own. A far end ends when the link does."""
        if self.link:
            with suppress(OSError):
                self.link.close()
        kill_group(self.pid)

    def kill(self) -> None:
        self.cut()
        self.process.wait()

    def ended(self) -> int | None:
        """Its exit code; None where a launcher ended and nobody knows of the trainer's end. Waits until it is dead."""
        if not self.link:
            return self.process.wait()
        with suppress(subprocess.TimeoutExpired):
            self.process.wait(LAST_WORDS_SECONDS)
        self.kill()
        end = time.monotonic() + FENCE_SECONDS + 1  # a far end that hears nothing has killed it by then
        while (told := read_far(self.folder, "ended.json")) is None and self.begun() and time.monotonic() < end:
            time.sleep(0.1)
        return told["returncode"] if told and told["link"] == "kept" else None

    def begun(self) -> bool:
        return not self.link or read_far(self.folder, "begun.json") is not None

    def _say(self, words: bytes) -> None:
        if self.link:
            with suppress(OSError, ValueError):  # it ended, or was cut
                os.write(self.link.fileno(), words)


def start(stage: str, job: Path, *, threads: int, **environ: str) -> Trainer:
    """Run `python -m alignment STAGE job.json`, here or through TRAINING_LAUNCHER; it dies with this process."""
    program, fixed = [sys.executable, "-m", "alignment", stage, str(job)], for_trainer(threads) | environ
    if settings.TRAINING_LAUNCHER:
        named = [f"{name}={value}" for name, value in fixed.items()]
        far = [sys.executable, "-I", "-S", FAR_END, FENCE_SECONDS, settings.BASE_DIR, job.parent, *named, "--"]
        program = launched(settings.TRAINING_LAUNCHER, [*map(str, far), *program])
    with open(job.with_name("log.txt"), "ab") as log:
        log.write(f"$ python -m alignment {stage} {job}\n".encode())
        log.flush()
        process = subprocess.Popen(
            [sys.executable, "-I", "-S", str(DIE_WITH_PARENT), str(os.getpid()), *program],
            cwd=settings.BASE_DIR,
            env=environment(threads) | environ,
            stdin=subprocess.PIPE if settings.TRAINING_LAUNCHER else subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    if process.stdin:
        os.set_blocking(process.stdin.fileno(), False)  # a launcher that reads nothing must not hold up a heartbeat
    return Trainer(process, job.parent)


def environment(threads: int) -> dict[str, str]:
    """The trainer reads files and nothing else: no database, no secret, no network look-up."""
    return {name: value for name, value in os.environ.items() if name not in SECRETS} | for_trainer(threads)


def for_trainer(threads: int) -> dict[str, str]:
    fixed = {name: str(threads) for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")}
    offline = {"HF_HUB_OFFLINE": "1", "TRANSFORMERS_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false"}
    patient = {"OMP_WAIT_POLICY": "PASSIVE"}  # spinning threads starve each other where the cores are shared
    return fixed | offline | patient | {"PYTHONUNBUFFERED": "1"}


def read_far(folder: Path, name: str) -> dict | None:
    """What the far end of a launcher wrote."""
    with suppress(OSError, ValueError):
        return json.loads((folder / name).read_text())
    return None


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
