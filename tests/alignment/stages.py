"""Running a stage in this process, as `python -m alignment` would."""

import json
from pathlib import Path

from alignment.__main__ import main
from alignment.config import Job

FAST = {"learning_rate": 3e-3, "batch_size": 16, "epochs": 3, "checkpoint_every": 2}


def run(job: Job, tmp_path: Path) -> tuple[int, dict]:
    """(exit code, result.json)."""
    path = tmp_path / f"{job.stage}-job.json"
    job.dump(path)
    exit_code = main([job.stage, str(path)])
    return exit_code, json.loads((Path(job.output) / "result.json").read_text())
