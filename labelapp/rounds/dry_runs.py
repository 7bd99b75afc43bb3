"""Dry runs on the machine that trains: a whole recipe in miniature, timed, and the checks that go before a launch."""

import shutil
import time
from datetime import timedelta
from pathlib import Path
from typing import Any

import structlog
from django.conf import settings
from django.db import transaction
from django.db.models import Q
from django.db.models.functions import Now
from django.utils import timezone

from alignment.config import Input, Job
from labelapp.celery import ring
from labelapp.models import Estimate, Project, Snapshot, User, Version
from labelapp.rounds import devices, trainer
from labelapp.rounds.actions import ready_stages
from labelapp.rounds.budget import CPU, book_estimate
from labelapp.rounds.checks import checks_of
from labelapp.rounds.estimate import plan_digest
from labelapp.rounds.failures import explain
from labelapp.rounds.saved import Plan
from labelapp.storage import at_hand

RUN = "labelapp.tasks.run_estimate"
UNDER_WAY = [Estimate.State.WAITING, Estimate.State.RUNNING]
PATIENCE = timedelta(minutes=15)  # of one stage run dry; prolonged before each
LOOK_SECONDS = 0.2
log = structlog.get_logger(__name__)


class DryRunFailed(Exception):
    """A stage did not get through its dry run. The message is a sentence."""


def order_estimate(
    *,
    project: Project,
    plan: Plan,
    snapshot: Snapshot,
    parent: Version,
    seed: int = 0,
    by: User | None = None,
    form: dict[str, Any] | None = None,
    now: bool = False,
) -> Estimate:
    """Have the plan run dry: by a worker, or now in this process. Refuses as launch_round does where it cannot run.

    Asked again while it waits or runs, the one that is under way is returned.
    """
    stages = ready_stages(project, plan, snapshot, parent, seed)
    what = {"project": project, "plan": plan_digest(plan.stages), "snapshot": snapshot, "parent": parent}
    with transaction.atomic():
        project.lock()  # of two who ask at once only one orders
        under_way = Estimate.objects.filter(**what, state__in=UNDER_WAY).exclude(busy_until__lt=Now()).first()
        if under_way and not now:
            return under_way
        estimate = Estimate.objects.create(**what, stages=stages, seed=seed, form=form or {}, created_by=by)
    if now:
        run_estimate(estimate.pk)
        estimate.refresh_from_db()
    else:
        ring(RUN, estimate.pk)
    return estimate


def run_estimate(estimate_id: int) -> None:
    """Run one estimate to its end. Returns quietly when it is not ours to run: a message may come twice or late."""
    free = Q(state=Estimate.State.WAITING) | Q(state=Estimate.State.RUNNING, busy_until__lt=Now())
    claimed = Estimate.objects.filter(free, pk=estimate_id)
    if not claimed.update(state=Estimate.State.RUNNING, busy_until=Now() + PATIENCE):
        return
    estimate = Estimate.objects.select_related("project", "snapshot", "parent").get(pk=estimate_id)
    folder, started = settings.ARTIFACT_DIR / "dry-runs" / str(estimate.pk), time.monotonic()
    try:
        estimate.found = {"checks": checks_of(estimate), "stages": []}
        run_stages(estimate, folder)
        estimate.state = Estimate.State.DONE
    except DryRunFailed as error:
        estimate.state, estimate.error = Estimate.State.FAILED, str(error)
    except Exception as error:
        estimate.state, estimate.error = Estimate.State.FAILED, f"The dry run failed: {type(error).__name__}: {error}"
        log.exception("dry run failed", estimate=estimate.pk)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        estimate.busy_until, estimate.finished_at = None, Now()
        estimate.save(update_fields=["state", "error", "found", "busy_until", "finished_at"])
        took = timedelta(seconds=time.monotonic() - started)
        book_estimate(estimate, device=estimate.found.get("device", CPU), took=took)


def is_lost(estimate: Estimate) -> bool:
    """Whether its worker is gone: then nobody ends it."""
    return bool(estimate.busy_until and estimate.busy_until < timezone.now())


def run_stages(estimate: Estimate, folder: Path) -> None:
    """Every stage in turn, each on what the ones before left. Raises DryRunFailed."""
    results: dict[str, dict[str, Any]] = {}
    for number, spec in enumerate(estimate.stages, start=1):
        found = run_stage(estimate, spec, folder / f"{number:02d}-{spec['name']}", results)
        results[spec["name"]] = found
        kept = {key: found[key] for key in ("peak_bytes", "device_peak_bytes") if key in found}
        estimate.found["stages"].append({"name": spec["name"], **kept, **found["dry_run"]})
        estimate.found["device"] = found["device"]
        Estimate.objects.filter(pk=estimate.pk).update(found=estimate.found, busy_until=Now() + PATIENCE)


def run_stage(estimate: Estimate, spec: dict, directory: Path, results: dict[str, dict]) -> dict[str, Any]:
    directory.mkdir(parents=True)
    job = Job(
        stage=spec["stage"],
        inputs={name: resolve(estimate, symbol, results) for name, symbol in spec["inputs"].items()},
        config={key: written(value, results) for key, value in spec["config"].items()},
        output=str(directory),
        seed=spec.get("seed", estimate.seed),
        threads=settings.TRAINING_THREADS,
        dry_run=True,
    )
    job.dump(directory / "job.json")
    try:
        seen = devices.seen_by(devices.spare())
    except devices.NoDevice as lack:
        raise DryRunFailed(f"{lack}: wait for a round's end.") from lack
    child = trainer.start(spec["stage"], directory / "job.json", threads=job.threads, **seen)
    try:
        wait(child, spec["name"])
    finally:
        child.over() or child.kill()
    result = trainer.read_result(directory)
    if (result or {}).get("status") != "done":
        text = trainer.tail(directory / "log.txt")
        raise DryRunFailed(str(explain(spec["name"], returncode=child.ended() or 0, result=result, log=text)))
    return result


def wait(child: trainer.Trainer, name: str) -> None:
    """Raises DryRunFailed where a stage takes longer than PATIENCE even for its first steps."""
    end = time.monotonic() + PATIENCE.total_seconds()
    while not child.over():
        child.pulse()
        if time.monotonic() > end:
            minutes = PATIENCE.total_seconds() / 60
            raise DryRunFailed(f"{name} takes more than {minutes:.0f} minutes for its first steps alone.")
        time.sleep(LOOK_SECONDS)


def resolve(estimate: Estimate, symbol: str, results: dict[str, dict]) -> Input:
    """The directory and digest that an input's symbol stands for; a stage's own is that of its dry run."""
    kind, _, name = symbol.partition(":")
    if kind == "stage":
        return Input(**results[name]["checkpoint"])
    row = {"snapshot": estimate.snapshot, "parent": estimate.parent}.get(kind)
    row = row or Version.objects.get(pk=name, project=estimate.project)
    return Input(at_hand(row.path, row.digest), row.digest)


def written(value: Any, results: dict[str, dict]) -> Any:
    """A config value; of "file:NAME/FILE" the path of the file that an earlier stage wrote."""
    if not isinstance(value, str) or not value.startswith("file:"):
        return value
    name, _, file = value.removeprefix("file:").partition("/")
    entries = (entry for entry in results[name].values() if isinstance(entry, dict) and "path" in entry)
    return next(entry["path"] for entry in entries if Path(entry["path"]).name == file)
