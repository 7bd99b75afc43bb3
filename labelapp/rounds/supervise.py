"""Where a round meets the trainer: one subprocess a stage, followed until its result.json says how it ended."""

import os
import shutil
import socket
import time
from dataclasses import asdict
from pathlib import Path
from typing import NamedTuple

import structlog
from django.conf import settings
from django.db import InterfaceError, OperationalError, close_old_connections
from django.db.models.functions import Now

from alignment.config import Job
from alignment.manifest import ArtifactError, verify
from labelapp import storage
from labelapp.models import Round, Stage
from labelapp.rounds import devices, lease, results, trainer
from labelapp.rounds.artifacts import round_directory, saved_state, stage_directory
from labelapp.rounds.failures import StageFailed, explain, last_line
from labelapp.rounds.heartbeat import Heartbeat, Question, never
from labelapp.rounds.inputs import resolve, written
from labelapp.rounds.keeping import StateKeeper, keep_outcome
from labelapp.rounds.progress import parse, store, store_missing
from labelapp.rounds.recipes import devices_of

LOOK_SECONDS = 0.5
STOPPED = {75, -15, 143}  # the exit codes of a trainer that was asked to end; a shell says 143 for -15
log = structlog.get_logger(__name__)
State = Round.State


class CancelRequested(Exception):
    """Somebody asked for the round's end."""


class Interrupted(Exception):
    """The worker ends, or the trainer was stopped from outside: the round goes back to the queue, to be resumed.

    `counts` as an attempt where the trainer had got nowhere: else whatever stops it could do so for ever.
    """

    def __init__(self, reason: str, *, counts: bool = False):
        super().__init__(reason)
        self.counts = counts


class Hold(NamedTuple):
    """What supervising needs to know at every step: the claim, its heartbeat, and whether the worker is stopping."""

    claim: lease.Claim
    heart: Heartbeat
    stopping: Question


def supervise_round(round_id: int, *, stopping: Question = never) -> None:
    """Run a round to its end. Returns quietly when it is not ours to run: a message may come twice or late."""
    claim = lease.claim(round_id, owner=f"{socket.gethostname()}:{os.getpid()}")
    if claim is None:
        log.info("nothing to claim", round=round_id)
        return
    log.info("round claimed", round=round_id, token=claim.token)
    with Heartbeat(claim) as heart:
        try:
            end(Hold(claim, heart, stopping))
        except lease.LeaseLost as error:
            log.warning("round lost", round=round_id, token=claim.token, error=str(error))


def end(hold: Hold) -> None:
    """Run what is left of the round and write how it ended. Raises LeaseLost."""
    claim = hold.claim
    try:
        run_stages(hold)
        results.complete(claim)
    except CancelRequested:
        finish(claim, State.CANCELLED)
    except Interrupted as error:
        lease.release(claim, reason=str(error), counts=error.counts)
    except storage.StoreAway as error:
        lease.release(claim, reason=str(error), counts=True)
    except StageFailed as error:
        if error.code == "server_lost":  # its state is saved, and a server may be started again
            lease.retry(claim, code=error.code, reason=str(error))
        else:
            finish(claim, State.FAILED, code=error.code, error=str(error))
    except (lease.LeaseLost, OperationalError, InterfaceError):
        raise  # the database is the judge, and is away: the lease runs out and the round is resumed
    except Exception as error:
        log.exception("supervisor failed", round=claim.round_id)
        finish(claim, State.FAILED, code="crashed", error=f"The supervisor failed: {type(error).__name__}: {error}")
        raise


def finish(claim: lease.Claim, state: str, **why: str) -> None:
    with lease.fenced(claim) as round:
        lease.close(round, state, **why)


def run_stages(hold: Hold) -> None:
    round = Round.objects.select_related("snapshot", "parent", "project").get(pk=hold.claim.round_id)
    specs = {spec["name"]: spec for spec in round.recipe["stages"]}
    for stage in round.stages.order_by("number"):
        if not is_finished(stage):
            run_stage(hold, round, stage, specs[stage.name])


def is_finished(stage: Stage) -> bool:
    """A stage that an earlier attempt finished is not run again, unless its checkpoint is no longer what it was."""
    if stage.state != Stage.State.DONE:
        return False
    if checkpoint := (stage.result or {}).get("checkpoint"):
        try:
            verify(storage.at_hand(checkpoint["path"], checkpoint["sha256"]), checkpoint["sha256"])
        except ArtifactError as error:
            log.warning("stage is run again", stage=stage.name, error=str(error))
            return False
    return True


def run_stage(hold: Hold, round: Round, stage: Stage, spec: dict) -> None:
    """Run one stage to its end and store its result. Raises StageFailed, CancelRequested, Interrupted or LeaseLost."""
    path = prepare(hold.claim, round, stage, spec)
    recover(hold.claim, stage)
    begun_at = stage.step
    child = trainer.start(stage.stage, path, threads=stage.job["threads"], **devices.seen_by(devices.held(round)))
    hold.heart.guard(child)
    with StateKeeper(path.parent):
        try:
            follow(hold, stage, child, path.parent)
        finally:
            if not child.over():
                child.kill()
            hold.heart.guard(None)
    accept(hold.claim, stage, child, begun_at)
    forget_states(round, stage)


def prepare(claim: lease.Claim, round: Round, stage: Stage, spec: dict) -> Path:
    """Write job.json into this attempt's own directory, and the stage's row that names it."""
    directory = stage_directory(round, stage, claim.token)
    earlier, damaged = saved_state(round, stage)
    job = Job(
        stage=stage.stage,
        inputs={name: resolve(round, symbol) for name, symbol in spec["inputs"].items()},
        config={key: written(round, value) for key, value in spec["config"].items()},
        output=str(directory),
        seed=spec.get("seed", round.seed),
        resume_from=earlier,
        threads=stage.job.get("threads") or settings.TRAINING_THREADS,  # the bits depend on it: keep the first's
        devices=stage.job.get("devices") or devices_of(spec, round.recipe.get("devices", 1)),
    )
    try:
        directory.mkdir(parents=True, exist_ok=True)
        job.dump(directory / "job.json")
    except OSError as error:
        raise StageFailed("disk_full", f"Cannot write to {directory}: {error}.") from error
    with lease.fenced(claim):
        stage.state, stage.output, stage.result = Stage.State.RUNNING, str(directory), None
        stage.job = asdict(job)
        stage.started_at, stage.finished_at = Now(), None
        stage.save(update_fields=["state", "output", "result", "job", "started_at", "finished_at"])
        for error in damaged:
            lease.record(round, "state_damaged", stage=stage.name, error=error, resumed_from=earlier)
        lease.record(round, "stage_started", stage=stage.name, resumed=bool(job.resume_from))
    return directory / "job.json"


def recover(claim: lease.Claim, stage: Stage) -> None:
    """Bring the steps that the killed attempt had written but its supervisor had not read."""
    if earlier := stage.job["resume_from"]:
        brought = Path(earlier) / "state" / "metrics.jsonl"  # from another machine, beside the state
        lines, _ = trainer.read_new_lines(brought if brought.is_file() else Path(earlier) / "metrics.jsonl", 0)
        with lease.fenced(claim):
            store_missing(stage, parse(lines))


def follow(hold: Hold, stage: Stage, child: trainer.Trainer, directory: Path) -> None:
    """Bring metrics to the database until the trainer ends. A database that is away is asked again."""
    offset, first, heard = 0, True, time.monotonic()
    while True:
        ended = child.over()  # before reading, so that nothing written before the end is missed
        if hold.heart.lost.is_set():
            raise lease.LeaseLost("fenced")
        if hold.stopping() and not ended:
            child.stop()
            raise Interrupted("the worker is shutting down")
        lines, behind = trainer.read_new_lines(directory / "metrics.jsonl", offset)
        try:
            rows = parse(lines)
            if bring(hold.claim, stage, rows, first_batch=first):
                child.stop()
                raise CancelRequested
            heard = time.monotonic() if behind > offset else heard
            offset, first = behind, first and not rows
        except (OperationalError, InterfaceError) as error:
            log.warning("metrics wait for the database", stage=stage.name, error=str(error))
            close_old_connections()
            ended = False
        if ended:
            return
        if settings.TRAINING_SILENT_MINUTES and time.monotonic() - heard > 60 * settings.TRAINING_SILENT_MINUTES:
            child.stop()
            raise silent(stage)
        time.sleep(LOOK_SECONDS)


def silent(stage: Stage) -> StageFailed:
    reason = f"it was silent for more than {settings.TRAINING_SILENT_MINUTES:g} minutes"
    return explain(stage.name, step=stage.step, returncode=0, result={"code": "timeout", "reason": reason}, log="")


def bring(claim: lease.Claim, stage: Stage, rows: dict[int, dict], *, first_batch: bool) -> bool:
    """Store the rows; True when somebody asked for the round's end."""
    with lease.fenced(claim) as round:
        store(stage, rows, first_batch=first_batch)
    return round.cancel_requested_at is not None


def accept(claim: lease.Claim, stage: Stage, child: trainer.Trainer, begun_at: int) -> None:
    """Store the stage's result, or raise what its end means. begun_at: its step before this attempt."""
    returncode, result = child.ended(), trainer.read_result(child.folder)
    status, nowhere = (result or {}).get("status"), stage.step <= begun_at
    if result is None and not child.begun():
        said = last_line(trainer.tail(child.folder / "log.txt"))
        result = {"code": "not_launched", "reason": f"exit code {child.process.returncode}; {said}"}
    elif result is None and returncode is None:
        raise Interrupted("the link to the trainer broke", counts=nowhere)
    if status == "stopped" and result.get("code") == "server_lost":
        raise explain(stage.name, step=stage.step, returncode=returncode or 0, result=result, log="")
    if status == "stopped" or (result is None and returncode in STOPPED):
        raise Interrupted("the trainer was stopped from outside", counts=nowhere)
    if status == "done" and (checkpoint := result.get("checkpoint")):
        try:
            verify(checkpoint["path"], checkpoint["sha256"])
        except ArtifactError as error:
            status, result = "failed", {"code": "damaged", "reason": str(error)}
    keep_outcome(child.folder, result["checkpoint"] if status == "done" else None)
    with lease.fenced(claim) as round:
        done = status == "done"
        stage.state, stage.result = (Stage.State.DONE if done else Stage.State.FAILED), result
        stage.step, stage.finished_at = (stage.steps if done else stage.step), Now()
        stage.save(update_fields=["state", "result", "step", "finished_at"])
        lease.record(round, "stage_done" if done else "stage_failed", stage=stage.name)
    if not done:
        log_text = trainer.tail(child.folder / "log.txt")
        raise explain(stage.name, step=stage.step, returncode=returncode or 0, result=result, log=log_text)


def forget_states(round: Round, stage: Stage) -> None:
    """Remove the resumable states of a finished stage: three times its model's size, and of no use any more."""
    for state in round_directory(round).glob(f"*/{stage.number:02d}-{stage.name}/state"):
        shutil.rmtree(state, ignore_errors=True)
