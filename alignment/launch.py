"""A run on several devices of one machine: a process for each, started, told to stop and buried here. Torch-free.

The processes learn who they are in torchrun's words, RANK and WORLD_SIZE: `torchrun -m alignment STAGE job.json` starts
them as well, on several machines too. Started here, a lost rank is named in result.json, a state may take longer to
save than the 30 seconds that torchrun leaves, and no further process holds torch.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from alignment.config import EXIT_DONE, EXIT_STOPPED, Job

LOST = "rank_lost"
GRACE_SECONDS = 10.0  # how long the other ranks may go on once one has ended otherwise than well
LOOK_SECONDS = 0.05
LAUNCHER = "ALIGNMENT_LAUNCHER"  # the pid of the process that started this rank
MEETING = "ALIGNMENT_MEETING"  # names the file where ranks of one machine meet; without it they meet as under torchrun
PR_SET_PDEATHSIG = 1


def rank_number() -> int | None:
    """Which of several ranks this process was started as; None for a process that runs by itself."""
    return int(os.environ["RANK"]) if int(os.environ.get("WORLD_SIZE", 1)) > 1 else None


def threads_of(job: Job) -> int:
    """CPU threads of this process, 0 for torch's own choice: ranks share the job's, or else the machine's."""
    if job.devices == 1:
        return job.threads
    here = int(os.environ.get("LOCAL_WORLD_SIZE", job.devices))
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return max(1, (job.threads or cores or 1) // here)


def report_name(rank: int) -> str:
    """Where another rank than the first says why it failed."""
    return f"rank-{rank}.json"


def run_ranks(argv: list[str], job: Job) -> tuple[int, dict[str, Any]]:
    """Run the job to its end in `job.devices` processes: (exit code, what result.json says)."""
    output = Path(job.output)
    output.mkdir(parents=True, exist_ok=True)
    for left in output.glob(report_name("*")):
        left.unlink()
    with tempfile.TemporaryDirectory() as folder:
        run = Run()
        signal.signal(signal.SIGTERM, run.stop)
        try:
            run.start(argv, job, Path(folder) / "meeting")
            run.wait()
        finally:
            run.kill()
    code, said = verdict(run, output)
    if said.get("device") == "cpu":  # every rank held about as much, all of them on this machine
        said["peak_bytes"] *= job.devices
    return code, said


class Run:
    """The processes of a run. SIGTERM is passed on to them."""

    def __init__(self) -> None:
        self.ranks: list[subprocess.Popen] = []
        self.asked = False  # to stop
        self.killed: set[int] = set()  # by us

    def start(self, argv: list[str], job: Job, meeting: Path) -> None:
        size, threads = str(job.devices), str(threads_of(job))
        shared = {"WORLD_SIZE": size, "LOCAL_WORLD_SIZE": size, MEETING: str(meeting), LAUNCHER: str(os.getpid())}
        shared |= {name: threads for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")}
        loopback = {"GLOO_SOCKET_IFNAME": "lo" if sys.platform == "linux" else "lo0"}  # nobody else can connect
        for number in range(job.devices):
            who = {"RANK": str(number), "LOCAL_RANK": str(number)}
            environment = {**loopback, **os.environ, **shared, **who}
            self.ranks.append(subprocess.Popen([sys.executable, "-m", "alignment", *argv], env=environment))
        if self.asked:
            self.stop()

    def stop(self, *_: Any) -> None:
        self.asked = True
        for rank in self.ranks:
            if rank.poll() is None:
                rank.terminate()

    def wait(self) -> None:
        """Until all have ended. Where one has not ended well, the others have GRACE_SECONDS to see it."""
        late = None
        while None in (codes := [rank.poll() for rank in self.ranks]):
            if late is None and any(codes):
                late = time.monotonic() + GRACE_SECONDS
            if late is not None and time.monotonic() > late:
                self.kill()
            time.sleep(LOOK_SECONDS)

    def kill(self) -> None:
        for number, rank in enumerate(self.ranks):
            if rank.poll() is None:
                self.killed.add(number)
                rank.kill()
                rank.wait()


def verdict(run: Run, output: Path) -> tuple[int, dict[str, Any]]:
    """(exit code, what result.json says): what rank 0 said, unless another rank knows better or one was lost."""
    codes = [rank.returncode for rank in run.ranks]
    said = read(output / "result.json") if codes[0] >= 0 else {}
    if codes[0] == EXIT_DONE or said.get("status") == "stopped":
        return codes[0], said
    lost = [number for number, code in enumerate(codes) if code < 0 and number not in run.killed]
    if lost and run.asked:
        return EXIT_STOPPED, failed("stopped", "stopped by a signal; the last saved state is whole", status="stopped")
    if lost:
        name = signal.Signals(-codes[lost[0]]).name
        why = ", most likely for want of memory" if name == "SIGKILL" else ""
        sentence = f"rank {lost[0]} of {len(codes)} was ended by {name}{why}; give the job again with resume_from"
        return 1, failed(LOST, sentence)
    reports = [said, *(read(output / report_name(number)) for number in range(1, len(codes)))]
    for code, report in zip(codes, reports, strict=True):
        if report.get("code", LOST) != LOST:
            return code, report
    return 1, said or failed(LOST, f"the ranks ended with the codes {codes}; see their words above")


def failed(code: str, reason: str, status: str = "failed") -> dict[str, Any]:
    return {"status": status, "code": code, "reason": reason}


def read(path: Path) -> dict[str, Any]:
    try:
        return json.loads(path.read_text())
    except (OSError, ValueError):
        return {}


def follow_launcher() -> None:
    """Have the kernel end this rank when the process that started it is gone, even by kill -9. Linux alone can."""
    pid = os.environ.get(LAUNCHER)
    if pid is None or sys.platform != "linux":
        return
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != int(pid):
        sys.exit(1)
