"""Every write a person causes: launch a round, ask for its end."""

import json
import random
from collections.abc import Iterator
from contextlib import contextmanager
from copy import deepcopy
from pathlib import Path
from typing import Any

from django.db import IntegrityError, transaction
from django.db.models import F, Max, QuerySet
from django.db.models.functions import Now

from alignment.manifest import ArtifactError, split_of
from labelapp.celery import ring
from labelapp.models import Project, Prompt, RecipeVersion, Round, RoundEvent, Snapshot, Stage, User, Version
from labelapp.models.rounds import ACTIVE_STATES
from labelapp.rounds.artifacts import look_over, write_prompts
from labelapp.rounds.budget import Expected, book_round, refuse_over_budget
from labelapp.rounds.checks import BAD, check_disk
from labelapp.rounds.estimate import expected_of, expected_sampling, plan_digest
from labelapp.rounds.notices.outbox import announce
from labelapp.rounds.presets import USUAL
from labelapp.rounds.refusals import DiskRefused, LaunchRefused
from labelapp.rounds.saved import Plan, plan_preset, plan_saved
from labelapp.storage import at_hand

SUPERVISE = "labelapp.tasks.supervise_round"
RESUMABLE = [Round.State.FAILED, Round.State.CANCELLED]
ATTEMPTS = 5  # that a resumed round has again


class RoundAlreadyActive(LaunchRefused):
    """The project has a round of this kind that is queued or running; `round` is that one, if it is still there."""

    def __init__(self, round: Round | None):
        which = f"Round {round.number} is {round.state}" if round else "A round is active"
        super().__init__(f"{which}: a project runs one round at a time. Wait for it or cancel it.")
        self.round = round


class SnapshotRefused(LaunchRefused):
    field = "snapshot"


class ParentRefused(LaunchRefused):
    field = "parent"


class RoundIsOver(Exception):
    """The round has ended already; there is nothing to cancel."""


class RoundNotResumable(LaunchRefused):
    """The round has not ended, or is done."""


def launch_round(
    *,
    project: Project,
    snapshot: Snapshot,
    parent: Version,
    recipe: str = USUAL,
    mitigation: bool = False,
    seed: int = 0,
    by: User | None = None,
    changes: dict[str, Any] | None = None,
    saved: RecipeVersion | None = None,
    why: str = "",
) -> Round:
    """Queue a training round and ring for a worker. Its reward model is measured beside the project's newest one.

    saved: runs as it was saved; then recipe, mitigation and changes are not looked at.
    why: of a round that nobody launched, in words.

    Refuses with RoundAlreadyActive, SnapshotRefused, ParentRefused, refusals.BudgetRefused or recipes.OptionRefused.
    """
    plan = plan_saved(saved) if saved else plan_preset(recipe, mitigation=mitigation, changes=changes)
    expected = expected_of(project=project, plan=plan, snapshot=snapshot, parent=parent)
    stages = ready_stages(project, plan, snapshot, parent, seed)
    return queue_round(
        project=project,
        kind=Round.Kind.TRAINING,
        recipe={"name": plan.preset, "title": plan.title, "stages": stages, "changes": plan.changes},
        recipe_version=plan.version,
        snapshot=snapshot,
        parent=parent,
        mitigation=plan.mitigation,
        seed=seed,
        by=by,
        why=why,
        expected=expected,
        plan=plan_digest(plan.stages),
    )


def ready_stages(project: Project, plan: Plan, snapshot: Snapshot, parent: Version, seed: int) -> list[dict[str, Any]]:
    """The plan's specs with what this data and these models add to them.

    Refuses with SnapshotRefused, ParentRefused or refusals.DiskRefused.
    """
    refuse_unusable_snapshot(project, snapshot)
    refuse_unusable_parent(project, parent)
    refuse_missing_safety(plan.stages, snapshot)
    refuse_full_disk(parent, plan.stages)
    stages = deepcopy(plan.stages)
    ask_held_out_prompts(stages, snapshot, seed)
    if not plan.mitigation and (earlier := earlier_reward(project)):
        compare_with(stages, earlier)
    return stages


def usual_parent(project: Project) -> Version | None:
    """The version that answers; where none does, the newest policy."""
    policies = project.versions.filter(kind=Version.Kind.POLICY)
    return policies.filter(state=Version.State.PROMOTED).first() or policies.first()


def reward_models(project: Project) -> QuerySet[Version]:
    """Those that rounds made, without the arms that others are only compared with."""
    made = project.versions.filter(kind=Version.Kind.REWARD, round__isnull=False)
    return made.exclude(name__startswith="reward-baseline")


def earlier_reward(project: Project) -> Version | None:
    """The newest reward model of a round whose files are there."""
    newest = reward_models(project).order_by("-created_at", "-pk").first()
    try:
        if newest:
            look_over(newest.path, newest.digest)
    except ArtifactError:
        return None
    return newest


def compare_with(stages: list[dict], earlier: Version) -> None:
    """Have the new reward model measured beside an earlier one on the same held-out pairs: what judgments moved."""
    for spec in stages:
        if spec["stage"] == "evaluate":
            spec["inputs"] = spec["inputs"] | {"reward_champion": f"version:{earlier.pk}"}


def ask_held_out_prompts(stages: list[dict], snapshot: Snapshot, seed: int) -> None:
    """Have policies compared on the held-out prompts, fresh ones too: far more than the judged test pairs have.

    Which groups are held out is the snapshot's rule, so no prompt of its training pairs is among them.
    """
    share = snapshot.manifest.get("split", {}).get("test_share", snapshot.project.test_share)
    groups = snapshot.project.prompts.order_by("pk").values_list("pk", "group")
    held_out = [pk for pk, group in groups.iterator() if split_of(group, share) == "test"]
    for spec in stages:
        if spec["stage"] == "evaluate" and held_out and not spec["config"].get("prompts"):
            chosen = random.Random(seed).sample(held_out, min(len(held_out), spec["config"]["max_prompts"]))
            spec["config"]["prompts"] = write_prompts(Prompt.objects.filter(pk__in=chosen).order_by("pk"))


def queue_round(
    *,
    project: Project,
    kind: str,
    recipe: dict,
    by: User | None = None,
    why: str = "",
    expected: Expected | None = None,
    plan: str = "",
    **fields,
) -> Round:
    """Number and store a round with its stages, and ring. The database refuses a second active one of its kind.

    plan: digest of its stages, by which a later launch finds what this round took.

    Refuses with RoundAlreadyActive, and with BudgetRefused where the month's budget does not hold what is expected.
    """
    if expected is None and kind == Round.Kind.SAMPLING:
        expected = expected_sampling(project, recipe)
    with one_active(project, kind):
        project.lock()  # one number after the other, and one look at the budget
        refuse_over_budget(project, expected, must_know=kind == Round.Kind.TRAINING)
        fields["expected"] = expected._asdict() if expected else {"plan": plan}
        last = project.rounds.aggregate(last=Max("number"))["last"] or 0
        round = Round.objects.create(
            project=project, kind=kind, recipe=recipe, number=last + 1, created_by=by, rung_at=Now(), **fields
        )
        Stage.objects.bulk_create(
            Stage(round=round, number=number, name=spec["name"], stage=spec["stage"])
            for number, spec in enumerate(recipe["stages"], start=1)
        )
        detail = {"recipe": recipe["name"]} | ({"why": why} if why else {})
        RoundEvent.objects.create(round=round, kind="launched", by=by, detail=detail)
        ring(SUPERVISE, round.pk)
        return round


@contextmanager
def one_active(project: Project, kind: str) -> Iterator[None]:
    """A transaction in which the database's refusal of a second active round is RoundAlreadyActive."""
    try:
        with transaction.atomic():
            yield
    except IntegrityError as error:
        if "one_active_round_per_project" in str(error):
            active = project.rounds.filter(kind=kind, state__in=ACTIVE_STATES).first()
            raise RoundAlreadyActive(active) from error
        raise


@transaction.atomic
def request_cancel(*, round: Round, by: User | None = None) -> Round:
    """End a queued round now; ask the supervisor of a running one to stop it. Refuses with RoundIsOver."""
    round = Round.objects.select_for_update(no_key=True, of=("self",)).get(pk=round.pk)
    if round.state == Round.State.QUEUED:
        Round.objects.filter(pk=round.pk).update(
            state=Round.State.CANCELLED, cancel_requested_at=Now(), finished_at=Now()
        )
        round.stages.exclude(state=Stage.State.DONE).update(state=Stage.State.CANCELLED)
        book_round(round)
        announce(RoundEvent.objects.create(round=round, kind="cancelled", by=by, detail={"while": "queued"}))
    elif round.state == Round.State.RUNNING:
        if round.cancel_requested_at is None:
            Round.objects.filter(pk=round.pk).update(cancel_requested_at=Now())
            RoundEvent.objects.create(round=round, kind="cancel_requested", by=by)
    else:
        raise RoundIsOver(f"Round {round.number} is {round.state} already.")
    round.refresh_from_db()
    return round


@transaction.atomic
def resume_round(*, round: Round, by: User | None = None) -> Round:
    """Queue a training round again that failed or was cancelled: it goes on from its last saved state.

    Refuses with RoundNotResumable, RoundAlreadyActive, and BudgetRefused where the month's budget is used up.
    """
    round.project.lock()
    refuse_over_budget(round.project, None, must_know=False)
    ended = Round.objects.filter(pk=round.pk, kind=Round.Kind.TRAINING, state__in=RESUMABLE)
    with one_active(round.project, round.kind):
        resumed = ended.update(
            state=Round.State.QUEUED, max_attempts=F("attempt") + ATTEMPTS, error_code="", error="",
            finished_at=None, cancel_requested_at=None, owner="", lease_until=None, rung_at=Now(),
        )  # fmt: skip
    round.refresh_from_db()
    if not resumed:
        raise RoundNotResumable(f"Round {round.number} is {round.state}: only a failed or cancelled one is resumed.")
    round.stages.exclude(state=Stage.State.DONE).update(state=Stage.State.WAITING, finished_at=None)
    RoundEvent.objects.create(round=round, kind="resumed", by=by)
    ring(SUPERVISE, round.pk)
    return round


def refuse_unusable_snapshot(project: Project, snapshot: Snapshot) -> None:
    if snapshot.project_id != project.pk:
        raise SnapshotRefused("This snapshot belongs to another project.")
    for split, pairs in {"train": snapshot.pairs_train, "test": snapshot.pairs_test}.items():
        if not pairs:
            raise SnapshotRefused(
                f"Snapshot {snapshot} has no decisive pairs in its {split} split. Collect judgments on more groups "
                "of prompts, then freeze again."
            )
    try:
        look_over(snapshot.path, snapshot.digest)
    except ArtifactError as error:
        raise SnapshotRefused(f"The snapshot's files are not as they were frozen: {error}.") from error


def refuse_unusable_parent(project: Project, parent: Version) -> None:
    if parent.project_id != project.pk:
        raise ParentRefused("This version belongs to another project.")
    if parent.kind != Version.Kind.POLICY:
        raise ParentRefused(f"{parent.name} is a {parent.kind} model; a round starts from a policy.")
    try:
        look_over(parent.path, parent.digest)
    except ArtifactError as error:
        raise ParentRefused(f"The files of {parent.name} are not as they were: {error}.") from error


def refuse_full_disk(parent: Version, stages: list[dict]) -> None:
    """A round that would fill the disk takes the database's and everybody's room with it."""
    found = check_disk(parent.path, stages)
    if found["verdict"] == BAD:
        raise DiskRefused(f"There is no room on the disk: {found['text']}")


def refuse_missing_safety(stages: list[dict], snapshot: Snapshot) -> None:
    """A cost head learns from judgments that call answers safe or unsafe: better no round than one that ends there."""
    if not any(spec["config"].get("heads", {}).get("safety") for spec in stages):
        return
    with open(Path(at_hand(snapshot.path, snapshot.digest)) / "judgments.jsonl") as rows:
        said = {label for row in map(json.loads, rows) if row["split"] == "train" for label in row.get("safety") or []}
    if said != {"safe", "unsafe"}:
        raise SnapshotRefused(
            f"Snapshot {snapshot} has no answers judged safe beside others judged unsafe, which this recipe learns "
            "from. Collect judgments under a protocol that asks for safety, then freeze again."
        )
