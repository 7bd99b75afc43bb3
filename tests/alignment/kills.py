"""Runs in processes of their own that are killed without warning, on a machine of any speed.

A process is forked from one that has loaded the libraries already, so a test can afford many. It takes as many steps as
its killer allows and then waits: a fast machine cannot end a run first, and nobody counts the seconds of a slow one.
"""

import multiprocessing
import random
import signal
import threading
import time
from dataclasses import replace
from pathlib import Path

from alignment.__main__ import main
from alignment.config import Job
from alignment.metrics import Metrics
from tests.alignment.snapshots import metrics_of
from tests.alignment.stages import run

FORKS = multiprocessing.get_context("forkserver")
LOADED = ("pretrain", "sft", "reward", "online_dpo", "safe_ppo")
FORKS.set_forkserver_preload([f"alignment.{stage}" for stage in LOADED])
AHEAD = 2  # steps within which a kill may fall
CLOCKS = {"seconds", "memory_mib", "tokens_per_second"}
moments = random.Random()  # never seeded: every run of the tests tries others


def assert_kills_change_nothing(job: Job, folder: Path, kills: int = 3) -> dict[int, dict]:
    """A run that is killed again and again tells of the same steps and ends in the same artifact as one let be.

    The job saves its state every 3 steps. Returns what each step of the run said.
    """
    last, when = None, []
    for number in range(kills):
        attempt = replace(job, output=str(folder / f"attempt {number}"), resume_from=last)
        when.append(kill(attempt, folder, after=moments.randint(2 if last else 4, 5)))
        last = attempt.output
    _, expected = run(replace(job, output=str(folder / "whole")), folder)
    _, result = run(replace(job, output=str(folder / "again"), resume_from=last), folder)
    whole = told(folder / "whole")
    for output in [*(folder / f"attempt {number}" for number in range(kills)), folder / "again"]:
        for step, line in told(output).items():
            assert line == whole[step], f"{output.name} says otherwise of step {step}; killed at {when}"
    assert min(told(folder / "again")) > 1  # it did not begin at the beginning
    assert result["status"] == expected["status"] == "done"
    assert result["checkpoint"]["sha256"] == expected["checkpoint"]["sha256"], f"killed at {when}"
    return whole


def kill(job: Job, folder: Path, *, after: int) -> str:
    """Start the job and kill it at a random moment between its step `after` and the next ones; says when that was."""
    path = folder / "killed-job.json"
    job.dump(path)
    process = FORKS.Process(target=begin, args=(job.stage, str(path), after + AHEAD), daemon=True)
    process.start()
    while len(lines := lines_of(job.output)) < after:
        assert process.is_alive(), f"{job.stage} ended before its step {after}: give it more steps"
        time.sleep(0.005)
    pace = (lines[-1]["seconds"] - lines[0]["seconds"]) / (len(lines) - 1)
    time.sleep(late := moments.uniform(0, AHEAD * pace))
    process.kill()
    process.join()
    assert process.exitcode == -signal.SIGKILL
    return f"step {lines[-1]['step']} + {1000 * late:.1f} ms"


def begin(stage: str, path: str, steps: int) -> None:
    """The stage as `python -m alignment` runs it, until it has told of so many steps."""
    write, left = Metrics.write, iter(range(steps - 1))

    def tell(metrics: Metrics, step: int, **values: float) -> None:
        write(metrics, step, **values)
        if next(left, None) is None:
            threading.Event().wait()

    Metrics.write = tell
    main([stage, path])


def lines_of(output: str | Path) -> list[dict]:
    return metrics_of(output) if (Path(output) / "metrics.jsonl").is_file() else []


def told(output: Path) -> dict[int, dict]:
    """What each step's line says, without its clocks."""
    return {line["step"]: {k: v for k, v in line.items() if k not in CLOCKS} for line in metrics_of(output)}
