"""The real stages as processes, some at a time, as the worker would start them."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from alignment.config import Input, Job
from alignment.manifest import write_manifest

DEMO = Path(__file__).parents[1] / "labelapp" / "demo"
CPU = "cpu_seconds"  # beside a finished stage's result.json
Key, Made = TypeVar("Key"), TypeVar("Made")


class Bench(NamedTuple):
    """A folder, a seed, and the slots that all seeds of a run share: so many stages run at a time, a thread each."""

    work: Path
    seed: int
    slots: threading.Semaphore

    def stage(self, name: str, stage: str, config: dict[str, Any], **inputs: Input) -> dict[str, Any]:
        """Run one stage to its end and return result.json; the same job that is done is not done again.

        Raises RuntimeError with the stage's own reason.
        """
        output, path = self.work / name, self.work / f"{name}.json"
        job, before = Job(stage, inputs, config, str(output), seed=self.seed, threads=1), read_text(path)
        job.dump(path)
        if before != path.read_text() or not (output / CPU).is_file():
            shutil.rmtree(output, ignore_errors=True)
            with self.slots:
                print(f"seed {self.seed}: {name} ...", file=sys.stderr, flush=True)
                spent = run_process([sys.executable, "-m", "alignment", stage, str(path)])
            result = json.loads((output / "result.json").read_text())
            if result["status"] != "done":
                raise RuntimeError(f"{name} ended as {result['status']}: {result['reason']}")
            (output / CPU).write_text(str(spent))
        return json.loads((output / "result.json").read_text())

    def train(self, name: str, stage: str, config: dict[str, Any], **inputs: Input) -> Input:
        """As `stage`, and return the checkpoint."""
        return Input(**self.stage(name, stage, config, **inputs)["checkpoint"])

    def rows(self, name: str, file: str) -> list[dict[str, Any]]:
        return read_jsonl(self.work / name / file)


def side_by_side(tasks: dict[Key, Callable[[], Made]]) -> dict[Key, Made]:
    """The results of all tasks, which wait for stages; the first failure is raised once all have ended."""
    with ThreadPoolExecutor(len(tasks)) as pool:
        waiting = {name: pool.submit(task) for name, task in tasks.items()}
    return {name: found.result() for name, found in waiting.items()}


def freeze_pairs(directory: Path, train: Iterable[dict[str, Any]], test: Iterable[dict[str, Any]]) -> Input:
    """Rows of pairs files as a snapshot without judgments."""
    shutil.rmtree(directory, ignore_errors=True)
    directory.mkdir()
    for name, rows in (("pairs-train", train), ("pairs-test", test), ("judgments", ())):
        write_jsonl(directory / f"{name}.jsonl", rows)
    return Input(str(directory), write_manifest(directory, kind="snapshot"))


def write_jsonl(path: Path, rows: Iterable[dict[str, Any]]) -> None:
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")


def read_jsonl(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().split("\n") if line]  # texts may hold U+2028


@contextmanager
def work_folder(named: str | None) -> Iterator[Path]:
    """The folder that is named, which stays and makes a second run go on from the first; else one that is removed."""
    if named:
        Path(named).mkdir(parents=True, exist_ok=True)
        yield Path(named)
    else:
        with tempfile.TemporaryDirectory() as folder:
            yield Path(folder)


def run_process(command: list[str]) -> float:
    """Run a command on one thread to its end, whatever that is; returns its CPU seconds."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    process = subprocess.Popen(command, env=environment, stdout=2)  # stdout is for the one line of figures
    _, status, used = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    return used.ru_utime + used.ru_stime


def cpu_seconds(folders: Iterable[Path]) -> float:
    """CPU seconds of all stages in these folders, in whichever run: a busy machine does not change them much."""
    return sum(float(path.read_text()) for folder in folders for path in folder.glob(f"*/{CPU}"))


def read_text(path: Path) -> str:
    return path.read_text() if path.is_file() else ""
