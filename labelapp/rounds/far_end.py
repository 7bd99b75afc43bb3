"""Runs a trainer at the far end of a launcher, and ends it when the link to its supervisor breaks. Needs Python alone.

Run as `python -I -S far_end.py SECONDS PLACE FOLDER [NAME=VALUE ...] -- PROGRAM [WORD ...]`. The supervisor writes to
our standard input: an empty line with each heartbeat, `stop` to have the trainer save and end. An end of the input, or
SECONDS without a line, kills the trainer's process group. How it ended by itself is told in FOLDER/ended.json, since
launchers have exit codes of their own.
"""

import contextlib
import ctypes
import json
import os
import select
import signal
import subprocess
import sys
import time

PR_SET_PDEATHSIG = 1
LOOK_SECONDS = 0.2


def main(words: list[str]) -> int:
    dashes = words.index("--")
    (patience, place, folder), environ, program = words[:3], words[3:dashes], words[dashes + 1 :]
    os.chdir(place)
    os.environ.update(pair.split("=", 1) for pair in environ)
    trainer = subprocess.Popen(
        program, stdin=subprocess.DEVNULL, start_new_session=True, preexec_fn=die_with_parent
    )
    tell(folder, "begun.json", {"pid": trainer.pid})
    signal.signal(signal.SIGTERM, lambda *_: trainer.terminate())  # launchers such as srun hand it on
    kept = follow(trainer, float(patience))
    code = trainer.wait()
    tell(folder, "ended.json", {"returncode": code, "link": "kept" if kept else "lost"})
    return code if code >= 0 else 128 - code


def follow(trainer: subprocess.Popen, patience: float) -> bool:
    """Obey what is said until the trainer ends; False where the link broke, and the trainer was killed."""
    heard, line = time.monotonic(), b""
    while trainer.poll() is None:
        if select.select([0], [], [], LOOK_SECONDS)[0]:
            said = os.read(0, 4096)
            if not said:
                return kill(trainer)
            heard, line = time.monotonic(), line + said
            if b"stop\n" in line:
                trainer.terminate()
            line = line.rpartition(b"\n")[2]
        elif time.monotonic() - heard > patience:
            return kill(trainer)
    return True


def kill(trainer: subprocess.Popen) -> bool:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(trainer.pid, signal.SIGKILL)
    return False


def die_with_parent() -> None:
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


def tell(folder: str, name: str, facts: dict) -> None:
    path = os.path.join(folder, name)
    try:
        with open(f"{path}.tmp", "w") as stream:
            json.dump(facts, stream)
        os.replace(f"{path}.tmp", path)
    except OSError as error:  # a full disk: the launcher's exit code has to do
        print(f"cannot write {path}: {error}", file=sys.stderr)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
