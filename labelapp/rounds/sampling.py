"""New comparisons from the promoted policy: a round of `generate` stages, whose answers enter the labelers' queue.

The promoted version is compared with its parent on fresh prompts, or with itself where it has no parent.
"""

import json
import random
import secrets
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from alignment.config import GenerateConfig, JobError
from alignment.manifest import ArtifactError
from labelapp import storage
from labelapp.labeling.queue import create_comparisons
from labelapp.models import (
    Comparison,
    Completion,
    Project,
    Prompt,
    Round,
    RoundEvent,
    Stage,
    Trial,
    User,
    Version,
    text_hash,
)
from labelapp.rounds.actions import LaunchRefused, queue_round
from labelapp.rounds.artifacts import look_over, write_prompts
from labelapp.rounds.failures import StageFailed
from labelapp.rounds.picking import queue_picked
from labelapp.rounds.promote import deployment_of

COMPLETIONS = "completions.jsonl"
SEEDS = 2**31


class NothingPromoted(LaunchRefused):
    """The project has no version that answers."""


class NoFreshPrompts(LaunchRefused):
    """Every fresh prompt has been compared for this pair of versions, or the project has none."""

    field = "prompts"


class SamplingRefused(LaunchRefused):
    """A setting is out of its range, or a checkpoint is not what it was."""


class Rivals(NamedTuple):
    """Who is compared: the promoted version and its parent, or the version with itself at two draws."""

    promoted: Version
    other: Version

    @property
    def are_one(self) -> bool:
        return self.promoted == self.other

    @property
    def keys(self) -> list[int]:
        return [self.promoted.pk, self.other.pk]


class Answer(NamedTuple):
    """One line of completions.jsonl, and who wrote it."""

    prompt: int
    text: str
    version: int | None
    sampling: dict[str, Any]
    author: str = ""  # of a stored answer, which no version wrote


class Collected(NamedTuple):
    """What became of the prompts of a sampling round."""

    comparisons: int
    identical: int  # both answers have the same text
    empty: int  # an answer has no text
    missing: int  # an answer was not written
    known: int  # the project compares these two texts already
    passed_over: int = 0  # candidates that were not picked


def rivals_of(project: Project) -> Rivals:
    """Raises NothingPromoted."""
    promoted = deployment_of(project).version
    if promoted is None:
        raise NothingPromoted("Nothing is promoted yet, so there is nothing to sample from: promote a version first.")
    return Rivals(promoted, promoted.parent or promoted)


def sample_comparisons(
    *, project: Project, by: User | None = None, prompts: int = 20, seed: int | None = None, **settings_of_generate
) -> Round:
    """Queue a sampling round over randomly chosen fresh prompts that this pair has not been compared on.

    Args:
        settings_of_generate: temperature, top_p, max_new_tokens, batch_size, as alignment's GenerateConfig has them.

    Refuses with NothingPromoted, NoFreshPrompts, SamplingRefused or actions.RoundAlreadyActive.
    """
    if not 1 <= prompts <= 10_000:
        raise SamplingRefused(f"{prompts} prompts cannot be sampled: ask for 1 to 10000.")
    rivals, seed = rivals_of(project), secrets.randbelow(SEEDS) if seed is None else seed
    refuse_changed(rivals)
    eligible = list(fresh_prompts(project, rivals).order_by("pk"))
    if not eligible:
        remedy = 'import more prompts, as rows {"prompt": "...", "fresh": true}.'
        raise NoFreshPrompts(f"No fresh prompt is left for this pair of versions: {remedy}")
    chosen = random.Random(seed).sample(eligible, min(prompts, len(eligible)))
    config = {"prompts": write_prompts(chosen), **settings_of_generate}
    recipe = {
        "name": "sample",
        "title": "Sample new comparisons",
        "stages": plan(rivals, config, seed),
        "versions": rivals.keys,
        "prompts": [prompt.pk for prompt in chosen],
        "eligible": len(eligible),
        "propensity": len(chosen) / len(eligible),
    }
    return queue_round(
        project=project, kind=Round.Kind.SAMPLING, recipe=recipe, parent=rivals.promoted, seed=seed, by=by
    )


def fresh_prompts(project: Project, rivals: Rivals):
    """Fresh prompts that no sampling round of this pair has put in the queue."""
    done = Comparison.objects.filter(project=project, round__recipe__versions=rivals.keys)
    return Prompt.objects.filter(project=project, fresh=True).exclude(pk__in=done.values("prompt"))


def plan(
    rivals: Rivals, config: dict[str, Any], seed: int, *, names: Sequence[str] = ("sample_promoted", "sample_parent")
) -> list[dict]:
    """One `generate` stage for each version; for one version alone a single stage with two samples a prompt.

    Each stage has a seed of its own: with equal seeds, policies that are close would give equal texts more often.
    """
    try:
        GenerateConfig(**config)
    except (JobError, TypeError) as error:
        raise SamplingRefused(f"The answers cannot be sampled like this: {error}.") from error
    names = ["sample"] if rivals.are_one else names
    samples = 2 if rivals.are_one else 1
    return [
        {
            "name": name,
            "stage": "generate",
            "config": {**config, "samples": samples},
            "inputs": {"policy": f"version:{version}"},
            "seed": (seed + number) % SEEDS,
        }
        for number, (name, version) in enumerate(zip(names, rivals.keys, strict=False))
    ]


def refuse_changed(rivals: Rivals) -> None:
    for version in set(rivals):
        try:
            look_over(version.path, version.digest)
        except ArtifactError as error:
            raise SamplingRefused(f"The files of {version.name} are not as they were: {error}.") from error


def collect(round: Round) -> Collected:
    """Turn the answers of a finished sampling round into comparisons for the queue; collecting again adds nothing.

    Raises StageFailed where an answers file cannot be read. Run it in a transaction.
    """
    answers = defaultdict(list)
    for answer in read_answers(round):
        answers[answer.prompt].append(answer)
    prompts = Prompt.objects.filter(project=round.project_id, pk__in=round.recipe["prompts"]).in_bulk()
    fates = {pk: fate(answers[pk]) for pk in prompts}
    items = [
        (prompts[pk], store_completions(prompts[pk], answers[pk])) for pk, found in fates.items() if found == "compared"
    ]
    trial = Trial.objects.filter(round=round).select_related("batch").first()
    purpose = {"origin": Comparison.Origin.RANDOM}
    if trial:  # one judgment a prompt: then prompts are independent
        purpose = {"origin": Comparison.Origin.TRIAL, "batch": trial.batch, "overlap": 1}
    if round.recipe.get("select"):
        made = queue_picked(round, items, {pk: [answer.text for answer in answers[pk]] for pk in prompts})
    else:
        made = create_comparisons(
            project=round.project, items=items, round=round, propensity=round.recipe["propensity"], **purpose
        )
    known = sum(comparison.round_id != round.pk for comparison in made)
    counts = Counter(fates.values())
    left_out = [counts[name] for name in ("identical", "empty", "missing")]
    collected = Collected(len(made) - known, *left_out, known, len(items) - len(made))
    if not round.events.filter(kind="collected").exists():
        RoundEvent.objects.create(round=round, kind="collected", detail=collected._asdict())
    return collected


def fate(answers: list[Answer]) -> str:
    """Whether the answers to one prompt can be compared, or why not."""
    if len(answers) < 2:
        return "missing"
    if not all(answer.text.strip() for answer in answers):
        return "empty"
    return "identical" if answers[0].text == answers[1].text else "compared"


def read_answers(round: Round) -> Iterator[Answer]:
    made = [spec for spec in round.recipe["stages"] if spec["stage"] == "generate"]
    versions = {spec["name"]: int(spec["inputs"]["policy"].partition(":")[2]) for spec in made}
    for stage in round.stages.filter(stage="generate").order_by("number"):
        for row in read_rows(stage):
            sampling = {name: value for name, value in row.items() if name not in {"id", "text", "messages"}}
            yield Answer(row["id"], row["text"], versions[stage.name], with_settings(stage, sampling))
    if author := round.recipe.get("author"):
        stored = Completion.objects.filter(prompt__in=round.recipe["prompts"], author=author).order_by("pk")
        latest = {row.prompt_id: row for row in stored}
        yield from (Answer(pk, row.text, None, row.sampling, author) for pk, row in latest.items())


def read_rows(stage: Stage) -> list[dict]:
    """The lines of the stage's answers file. Postgres holds no NUL, so one in a text becomes the replacement character.

    Raises StageFailed.
    """
    path = storage.file_at_hand(Path(stage.output) / COMPLETIONS)
    try:
        with path.open() as lines:  # not splitlines(), which also splits at separators inside a text
            rows = [json.loads(line, parse_constant=lambda name: None) for line in lines]
        return [{**row, "id": int(row["id"]), "text": row["text"].replace("\0", "\ufffd")} for row in rows]
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        sentence = f"The answers of stage {stage.name} cannot be read from {path}: {error}."
        raise StageFailed("damaged", sentence) from error


def with_settings(stage: Stage, row: dict[str, Any]) -> dict[str, Any]:
    """How an answer was sampled: the stage's settings, then what the row itself says."""
    config = stage.job.get("config") or {}
    settings_used = {name: config[name] for name in ("temperature", "top_p", "max_new_tokens") if name in config}
    return {**settings_used, "stage_seed": stage.job.get("seed"), **row}


def store_completions(prompt: Prompt, answers: list[Answer]) -> list[Completion]:
    """The answers as rows, ordered by the hash of their text: an order that knows nothing of who wrote which."""
    rows = [
        Completion.objects.get_or_create(
            prompt=prompt,
            content_hash=text_hash(answer.text),
            version_id=answer.version,
            author=answer.author,
            defaults={"text": answer.text, "sampling": answer.sampling},
        )[0]
        for answer in answers
    ]
    return sorted(rows, key=lambda completion: completion.content_hash)
