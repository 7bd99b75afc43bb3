"""`python -m alignment STAGE job.json`: run one stage and say in result.json how it ended. `--help` has a first run.

With --dry-run it takes a few steps only, and result.json says what the whole would take.

torch is imported only after the job has been read and its inputs verified, so a bad job is refused at once.
"""

from __future__ import annotations

import ctypes
import errno
import json
import os
import random
import sys
import time
import traceback
from contextlib import suppress
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from typing import Any

from alignment import launch
from alignment.config import (
    CONFIGS,
    EXIT_BAD_INPUT,
    EXIT_DISK_FULL,
    EXIT_DONE,
    EXIT_NON_FINITE,
    EXIT_STOPPED,
    Helped,
    Input,
    Job,
    JobError,
    NonFiniteStep,
    ServerLost,
    Stopped,
    stage_config,
)
from alignment.dry import footprint, noted
from alignment.manifest import ArtifactError, pin, verify

EXIT_CRASHED = 1
PARTED = ("Connection closed by peer", "Connection reset by peer", "Connection refused", "Broken pipe", "Timed out")
HELP = {"--help", "-h", "help"}
M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3  # malloc.h
DRY_RUN = "--dry-run"
NO_MEMORY = ("can't allocate memory", "Cannot allocate memory")  # torch's and safetensors' words, in plain errors
NO_ROOM = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}


def main(argv: list[str]) -> int:
    """Exit code of the stage; result.json in the job's output directory is the full answer."""
    if any(word in HELP for word in argv[:2]):
        return show_help(argv)
    if argv[:1] == ["tensorboard"]:
        return export_metrics(argv[1:])
    started, number, dry_run = time.monotonic(), launch.rank_number(), DRY_RUN in argv
    launch.follow_launcher()
    words, argv = argv, [word for word in argv if word != DRY_RUN]
    output = output_of(argv)
    try:
        job = _job(argv)
        job = replace(job, dry_run=job.dry_run or dry_run)
        config = stage_config(job)
        if job.devices > 1 and number is None:
            exit_code, outcome = launch.run_ranks(words, job)
        else:
            made = _run(job, config, number)
            made |= {"dry_run": noted(job.output, time.monotonic() - started)} if job.dry_run else {}
            exit_code, outcome = EXIT_DONE, {"status": "done", "reason": "", "code": "", **made}
    except Helped:
        return EXIT_DONE
    except Exception as error:
        exit_code, code, reason = failure(error)
        status = "stopped" if exit_code == EXIT_STOPPED else "failed"
        outcome = {"status": status, "reason": reason, "code": code}
        if not number or exit_code == EXIT_CRASHED:  # other ranks refuse in the same words
            with suppress(OSError):  # the log may lie on the disk that is full
                print(traceback.format_exc() if exit_code == EXIT_CRASHED else reason, file=sys.stderr, flush=True)
    if output:
        took = {"seconds": time.monotonic() - started}
        result = {"checkpoint": None, "metrics": [], **footprint(), **outcome, **took}  # of ranks, what the first took
        try:
            write_result(output, result, launch.report_name(number) if number else "result.json")
        except OSError as error:
            if not lacks_room(error):
                raise
            return EXIT_DISK_FULL
    return exit_code


def show_help(argv: list[str]) -> int:
    """The tutorial, or all about one stage."""
    from alignment.help import stage_help, tutorial

    try:
        print(stage_help(argv[0]) if argv[0] in CONFIGS else tutorial(), flush=True)
    except BrokenPipeError:  # a reader such as `head` has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # the last flush, at the exit, would fail again
    return EXIT_DONE


def export_metrics(words: list[str]) -> int:
    """metrics.jsonl to TensorBoard: no stage, since nothing is trained or measured."""
    from alignment.tensorboard import export

    try:
        if len(words) != 2:
            raise JobError("usage: python -m alignment tensorboard RUN LOGS, where RUN is the output of a run")
        made = export(*words)
    except JobError as error:
        print(error, file=sys.stderr)
        return EXIT_BAD_INPUT
    print(f"{len(made)} runs are in {words[1]}: tensorboard --logdir {words[1]}")
    return EXIT_DONE


def output_of(argv: list[str]) -> str | None:
    """Where the result goes, even that of a job which is refused; None where the file does not say."""
    try:
        found = json.loads(Path(argv[-1]).read_text())["output"]
    except (OSError, ValueError, LookupError, TypeError):
        return None
    return found if isinstance(found, str) else None


def _job(argv: list[str]) -> Job:
    if len(argv) != 2:
        stages = ", ".join(CONFIGS)
        raise JobError(f"usage: python -m alignment STAGE job.json [--dry-run], where STAGE is one of {stages}; --help")
    stage, path = argv
    job = Job.load(path)
    if job.stage != stage:
        raise JobError(f"{path} is a job for the stage {job.stage!r}, not {stage!r}")
    return job


def _run(job: Job, config: Any, number: int | None) -> dict[str, Any]:
    job = replace(job, inputs={name: pinned(given) for name, given in job.inputs.items()})
    Path(job.output).mkdir(parents=True, exist_ok=True)
    keep_freed_memory()
    settle(job)
    if number is None:
        return import_module(f"alignment.{job.stage}").run(job, config)
    devices = import_module("alignment.devices")
    devices.join(job)
    try:
        return import_module(f"alignment.{job.stage}").run(job, config)
    finally:
        devices.part()


def pinned(given: Input) -> Input:
    """The input with its digest, every byte checked against it. Raises ArtifactError."""
    if not given.sha256:
        return Input(given.path, pin(given.path))
    verify(given.path, given.sha256)
    return given


def keep_freed_memory() -> None:
    """Have glibc keep what a step frees: handed back to the kernel, its pages are faulted in again by the next step.

    A tenth of the time on a CPU (benchmarks/RESULTS.md, trainers); other C libraries stay as they are.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError):
        return
    mallopt(M_MMAP_THRESHOLD, 2**30)
    mallopt(M_TRIM_THRESHOLD, 2**31 - 1)


def settle(job: Job) -> None:
    """Threads, quiet libraries, and every random generator at the job's seed."""
    import numpy
    import torch
    from transformers.utils import logging

    if threads := launch.threads_of(job):
        torch.set_num_threads(threads)
    logging.disable_progress_bar()
    logging.set_verbosity_error()
    random.seed(job.seed)
    numpy.random.seed(job.seed % 2**32)
    torch.manual_seed(job.seed)


def failure(error: Exception) -> tuple[int, str, str]:
    """(exit code, code, reason): what the end of a stage is called."""
    reason = str(error) or type(error).__name__
    match error:
        case JobError() | ArtifactError():
            return EXIT_BAD_INPUT, "bad_input", reason
        case NonFiniteStep():
            return EXIT_NON_FINITE, "non_finite", reason
        case ServerLost():
            return EXIT_STOPPED, "server_lost", reason
        case Stopped():
            return EXIT_STOPPED, "stopped", reason
    if lacks_room(error):
        return EXIT_DISK_FULL, "disk_full", f"the disk is full: {reason}"
    if launch.rank_number() is not None and any(words in reason for words in PARTED):
        return EXIT_CRASHED, launch.LOST, f"another rank is gone: {reason.splitlines()[0]}"
    lacks_memory = isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError"
    if lacks_memory or any(words in reason for words in NO_MEMORY):
        return EXIT_CRASHED, "out_of_memory", f"there is not enough memory: {reason}"
    return EXIT_CRASHED, "crashed", f"{type(error).__name__}: {reason}"


def lacks_room(error: Exception) -> bool:
    """Whether a file could not grow. safetensors says so in words alone."""
    return getattr(error, "errno", None) in NO_ROOM or any(f"(os error {number})" in str(error) for number in NO_ROOM)


def write_result(output: str | Path, result: dict[str, Any], name: str = "result.json") -> None:
    """Replace result.json by one rename, so a reader never sees half of it."""
    path = Path(output) / name
    path.parent.mkdir(parents=True, exist_ok=True)
    fresh = path.with_suffix(".tmp")
    with open(fresh, "w") as stream:
        stream.write(json.dumps(result, indent=2, ensure_ascii=False) + "\n")
        stream.flush()
        os.fsync(stream.fileno())
    os.replace(fresh, path)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
