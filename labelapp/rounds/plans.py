"""Sampling plans: whose answers are compared next, and which of them are worth a person's time."""

import json
import random
import secrets
from pathlib import Path
from typing import Any, NamedTuple

from django.conf import settings
from django.db.models import QuerySet

from alignment.config import GenerateConfig, JobError
from alignment.manifest import ArtifactError, file_sha256
from labelapp.models import Comparison, Completion, Project, Prompt, Round, SamplingPlan, User, Version
from labelapp.rounds.actions import LaunchRefused, earlier_reward, queue_round
from labelapp.rounds.artifacts import look_over, write_prompts
from labelapp.rounds.promote import deployment_of
from labelapp.rounds.sampling import SEEDS, NoFreshPrompts, SamplingRefused

Side, Signal = SamplingPlan.Side, SamplingPlan.Signal


class PlanRefused(LaunchRefused):
    """The plan cannot be run as things are. The message says what is missing."""


class Sides(NamedTuple):
    """Who answers: a version, and another one or the stored answers of an author."""

    first: Version
    second: Version | None
    author: str

    @property
    def keys(self) -> list[int]:
        return [self.first.pk, self.second.pk if self.second else 0]

    @property
    def names(self) -> str:
        return f"{self.first.name} against {self.second.name if self.second else self.author}"


def sides_of(plan: SamplingPlan) -> Sides:
    """The versions that the plan's roles stand for now. Raises PlanRefused."""
    first = version_in(plan.project, plan.first)
    if plan.second == Side.AUTHOR:
        return Sides(first, None, plan.author)
    if plan.second == Side.SAME:
        return Sides(first, first, "")
    if plan.second == Side.PARENT:
        if first.parent is None:
            raise PlanRefused(f"{first.name} has no parent: choose another second side.")
        return Sides(first, first.parent, "")
    second = version_in(plan.project, plan.second)
    if second == first:
        raise PlanRefused(f"Both sides are {first.name}: choose “{Side.SAME.label}” if that is meant.")
    return Sides(first, second, "")


def version_in(project: Project, role: str) -> Version:
    """Raises PlanRefused where nobody has the role."""
    policies = project.versions.filter(kind=Version.Kind.POLICY)
    if role == Side.CHAMPION:
        found = deployment_of(project).version
    else:
        found = policies.filter(state=Version.State.CANDIDATE).order_by("-created_at", "-pk").first()
    if found is None:
        raise PlanRefused(f"There is no version that is {Side(role).label}.")
    return found


def eligible_prompts(plan: SamplingPlan, sides: Sides) -> QuerySet[Prompt]:
    """Prompts that these two have not been compared on: fresh ones, or those that the author has answered."""
    done = Comparison.objects.filter(project=plan.project, round__recipe__versions=sides.keys)
    if sides.author:
        done = done.filter(round__recipe__author=sides.author)
        asked = plan.project.prompts.filter(completions__author=sides.author).distinct()
    else:
        asked = plan.project.prompts.filter(fresh=True)
    return asked.exclude(pk__in=done.values("prompt"))


def run_plan(*, plan: SamplingPlan, by: User | None = None, seed: int | None = None) -> Round:
    """Queue a sampling round: answers of both sides to more prompts than are wanted, their scores, and the pick.

    Refuses with PlanRefused, NoFreshPrompts, SamplingRefused or actions.RoundAlreadyActive.
    """
    sides, seed = sides_of(plan), secrets.randbelow(SEEDS) if seed is None else seed
    reward = judge_of(plan) if plan.signal else None
    refuse_changed(sides, plan)
    eligible = list(eligible_prompts(plan, sides).order_by("pk"))
    if not eligible:
        raise NoFreshPrompts(f"No prompt is left for {sides.names}: import more, or choose other sides.")
    wanted = plan.comparisons * (plan.candidates if plan.signal else 1)
    chosen = random.Random(seed).sample(eligible, min(wanted, len(eligible)))
    recipe = {
        "name": "plan",
        "title": f"Sample: {plan.name}",
        "plan": plan.pk,
        "stages": stages_of(plan, sides, chosen, reward, seed),
        "versions": sides.keys,
        "author": sides.author,
        "prompts": [prompt.pk for prompt in chosen],
        "eligible": len(eligible),
        "propensity": len(chosen) / len(eligible),
        "select": {"signal": plan.signal, "count": plan.comparisons, "control_share": plan.control_share}
        if plan.signal else None,
    }  # fmt: skip
    return queue_round(
        project=plan.project, kind=Round.Kind.SAMPLING, recipe=recipe, parent=sides.first, seed=seed, by=by
    )


def judge_of(plan: SamplingPlan) -> Version:
    """The newest reward model, if it can tell what the plan asks for. Raises PlanRefused."""
    reward = earlier_reward(plan.project)
    if reward is None:
        raise PlanRefused("No round has made a reward model yet: train one, or let chance alone pick.")
    if plan.signal == Signal.DISAGREEMENT and members_of(reward) < 2:
        raise PlanRefused(
            f"{reward.name} has one reward head, which never disagrees with itself: train an ensemble with "
            "reward.heads.ensemble=5 in a round's further settings, or choose another signal."
        )
    return reward


def members_of(reward: Version) -> int:
    """How many reward heads the checkpoint has, by its config.json; 0 where it cannot be read."""
    try:
        names = json.loads((Path(reward.path) / "config.json").read_text())["id2label"].values()
    except (OSError, ValueError, KeyError, AttributeError):
        return 0
    return sum(name.partition("#")[0] == "reward" for name in names)


def refuse_changed(sides: Sides, plan: SamplingPlan) -> None:
    if plan.signal == Signal.DRIFT and (sides.second is None or sides.second == sides.first):
        raise PlanRefused("A drift is between two different versions: choose another signal or another second side.")
    for version in filter(None, {sides.first, sides.second}):
        try:
            look_over(version.path, version.digest)
        except ArtifactError as error:
            raise SamplingRefused(f"The files of {version.name} are not as they were: {error}.") from error


def stages_of(plan: SamplingPlan, sides: Sides, prompts: list[Prompt], reward: Version | None, seed: int) -> list[dict]:
    """`generate` for each side that has no stored answers, then `score` for each side where something picks."""
    asked = write_prompts(prompts)
    names = {"first": (sides.first, plan.first_temperature), "second": (sides.second, plan.second_temperature)}
    stages, files = [], {}
    for number, (name, (version, temperature)) in enumerate(names.items()):
        if version is None:
            files[name] = write_answers(prompts, sides.author)
            continue
        files[name] = f"file:sample_{name}/completions.jsonl"
        config = {"prompts": asked, "temperature": temperature, "max_new_tokens": plan.max_new_tokens, "samples": 1}
        check(config)
        stages.append({"name": f"sample_{name}", "stage": "generate", "config": config,
                       "inputs": {"policy": f"version:{version.pk}"}, "seed": (seed + number) % SEEDS})  # fmt: skip
    inputs = {"reward": f"version:{reward.pk}"} if reward else {}
    if plan.signal == Signal.DRIFT:
        inputs |= {"policy": f"version:{sides.first.pk}", "parent": f"version:{sides.second.pk}"}
    return stages + [
        {"name": f"score_{name}", "stage": "score", "inputs": inputs,
         "config": {"prompts": asked, "completions": file}}
        for name, file in files.items() if reward
    ]  # fmt: skip


def check(config: dict[str, Any]) -> None:
    try:
        GenerateConfig(**config)
    except (JobError, TypeError) as error:
        raise SamplingRefused(f"The answers cannot be sampled like this: {error}.") from error


def write_answers(prompts: list[Prompt], author: str) -> str:
    """The author's latest answer to each prompt, as `generate` writes its own, in a file named by its content."""
    rows = Completion.objects.filter(prompt__in=prompts, author=author).order_by("pk")
    latest = {row.prompt_id: row.text for row in rows}
    folder = settings.ARTIFACT_DIR / "prompts"
    draft = folder / f"{secrets.token_hex(8)}.partial"
    draft.write_text("".join(json.dumps({"id": pk, "text": text}) + "\n" for pk, text in sorted(latest.items())))
    return str(draft.rename(folder / f"{file_sha256(draft)}.jsonl"))
