"""Several ranks of one run, forked from a process that has loaded the libraries already."""

import json
import os
import uuid
from dataclasses import replace
from pathlib import Path

from alignment.__main__ import main
from alignment.config import Job
from tests.alignment.kills import CLOCKS, FORKS
from tests.alignment.snapshots import metrics_of


def run_ranks(job: Job, folder: Path, size: int = 2) -> dict:
    """result.json of the job on so many devices; what each rank ended with is under "codes"."""
    job = replace(job, devices=size)
    path = folder / f"{uuid.uuid4().hex}.json"
    job.dump(path)
    meeting = folder / uuid.uuid4().hex
    who = [(number, size, meeting, job.stage, path) for number in range(size)]
    ranks = [FORKS.Process(target=be, args=each, daemon=True) for each in who]
    for rank in ranks:
        rank.start()
    for rank in ranks:
        rank.join(240)
        assert rank.exitcode is not None, "a rank waits for one that never comes"
    return {**json.loads((Path(job.output) / "result.json").read_text()), "codes": [rank.exitcode for rank in ranks]}


def be(number: int, size: int, meeting: Path, stage: str, path: Path) -> None:
    """One rank, as `alignment.launch` starts it."""
    who = {"RANK": number, "LOCAL_RANK": number, "WORLD_SIZE": size, "LOCAL_WORLD_SIZE": size}
    os.environ.update({name: str(value) for name, value in who.items()})
    os.environ.update({"ALIGNMENT_MEETING": str(meeting), "GLOO_SOCKET_IFNAME": "lo"})
    os._exit(main([stage, str(path)]))


def curve(output: str | Path) -> dict[int, dict[str, float]]:
    """What each step's line says, without its clocks."""
    return {line["step"]: {k: v for k, v in line.items() if k not in CLOCKS} for line in metrics_of(output)}
