"""Ordering blind comparisons of a candidate with the version that answers: how many, how long, on which prompts."""

import math
import random
import secrets
from typing import NamedTuple

from django.db import IntegrityError, transaction
from django.db.models import Q, Sum

from alignment.manifest import split_of
from labelapp.labeling.protocol import parse
from labelapp.models import Batch, Comparison, Judgment, Project, Prompt, Round, Trial, User, Version, WorkDay
from labelapp.rounds.actions import LaunchRefused, queue_round
from labelapp.rounds.artifacts import write_prompts
from labelapp.rounds.promote import deployment_of
from labelapp.rounds.sampling import SEEDS, Rivals, plan, refuse_changed
from labelapp.rounds.sequential import Looks, looks, needed

MOST = 10_000  # prompts of one order
STAGES = ("sample_champion", "sample_candidate")
HELD_OUT, FRESH = "held-out", "fresh"
FIRST = -10  # a lower priority than other work's, which is handed out sooner


class TrialRefused(LaunchRefused):
    """The comparisons cannot be ordered like this. The message names why and what to do."""


class Estimate(NamedTuple):
    """What an order would take. Hours are of labelers' active time; None where no judgment was timed yet."""

    needed: int  # looked at once
    most: int  # looked at after every judgment, with the same power
    usual: int  # half of the trials that find the difference have ended by then
    prompts: int  # that there are
    visible: float  # the difference that these prompts can show, a share
    seconds: float | None  # a judgment
    hours: float | None  # of `needed`
    hours_most: float | None


def estimate(
    *,
    project: Project,
    candidate: Version,
    champion: Version,
    source: str,
    difference: float,
    alpha: float,
    power: float,
) -> Estimate:
    """What it would take to see the difference, at the project's own share of ties and pace."""
    ties, seconds = tie_share(project), seconds_a_judgment(project)
    once, cost = needed(difference=difference, alpha=alpha, power=power, ties=ties), looks(alpha, power)
    most, prompts = math.ceil(once * cost.most), len(eligible_prompts(project, candidate, champion, source))
    return Estimate(
        needed=once,
        most=most,
        usual=math.ceil(once * cost.usual),
        prompts=prompts,
        visible=visible_difference(prompts, alpha, power, ties, cost),
        seconds=seconds,
        hours=seconds and once * seconds / 3600,
        hours_most=seconds and most * seconds / 3600,
    )


def visible_difference(prompts: int, alpha: float, power: float, ties: float, cost: Looks) -> float:
    """The difference that so many comparisons show with this power: `needed` turned round."""
    at_a_point = needed(difference=0.01, alpha=alpha, power=power, ties=ties) * cost.most
    return 0.01 * math.sqrt(at_a_point / max(1, prompts))


def tie_share(project: Project) -> float:
    """The share of standing judgments of pairs that are ties or call both bad; 0 before any judgment."""
    rows = Judgment.objects.standing().filter(comparison__project=project, surplus=False)
    pairs = rows.filter(Q(ranking__isnull=False) | Q(both_bad=True))
    total, ties = pairs.count(), pairs.filter(Q(strength=0) | Q(both_bad=True)).count()
    return min(0.9, ties / total) if total else 0.0


def seconds_a_judgment(project: Project) -> float | None:
    """Mean active seconds a judgment of the project's people; None before any was timed."""
    done = WorkDay.objects.filter(project=project).aggregate(judged=Sum("judged"), seconds=Sum("active_seconds"))
    return done["seconds"] / done["judged"] if done["judged"] and done["seconds"] else None


def eligible_prompts(project: Project, candidate: Version, champion: Version, source: str) -> list[int]:
    """Prompts that the candidate did not learn from and that no trial of the two has used: held out, or fresh."""
    used = Comparison.objects.filter(project=project, round__trial__candidate=candidate,
                                     round__trial__champion=champion)  # fmt: skip
    rows = project.prompts.exclude(pk__in=used.values("prompt")).order_by("pk")
    if source == FRESH:
        return list(rows.filter(fresh=True).values_list("pk", flat=True))
    manifest = candidate.snapshot.manifest if candidate.snapshot else {}
    share = manifest.get("split", {}).get("test_share", project.test_share)
    return [pk for pk, group in rows.values_list("pk", "group").iterator() if split_of(group, share) == "test"]


def order_trial(
    *,
    project: Project,
    candidate: Version,
    by: User | None,
    source: str = HELD_OUT,
    difference: float = 0.03,
    alpha: float = 0.05,
    power: float = 0.8,
    temperature: float = 1.0,
    max_new_tokens: int = 96,
    first: bool = True,
) -> Trial:
    """Queue the sampling of both versions' answers; the comparisons follow when they are written.

    first: they are handed out before other work.

    Refuses with TrialRefused, or what sampling refuses with.
    """
    champion = deployment_of(project).version
    refuse_unfit(project, candidate, champion)
    eligible = eligible_prompts(project, candidate, champion, source)
    if not eligible:
        raise TrialRefused("No prompt is left that the two were not compared on; import more, or choose other ones.")
    ties, seed = tie_share(project), secrets.randbelow(SEEDS)
    once = needed(difference=difference, alpha=alpha, power=power, ties=ties)
    wanted = min(MOST, len(eligible), math.ceil(once * looks(alpha, power).most))
    asked = {"difference": difference, "alpha": alpha, "power": power, "ties": ties, "needed": once}
    settings = {"temperature": temperature, "max_new_tokens": max_new_tokens}
    chosen = list(Prompt.objects.filter(pk__in=random.Random(seed).sample(eligible, wanted)).order_by("pk"))
    try:
        with transaction.atomic():
            round = queue_sampling(project, Rivals(champion, candidate), chosen, len(eligible), settings, seed, by)
            name = f"Blind comparison of round {round.number}"
            batch = Batch.objects.create(project=project, name=name, priority=FIRST if first else 0)
            made = {"round": round, "batch": batch, "ordered_by": by} | asked
            return Trial.objects.create(project=project, candidate=candidate, champion=champion, **made)
    except IntegrityError as error:
        if "one_open_trial_of_two_versions" in str(error):
            raise TrialRefused(f"{candidate.name} is being compared with {champion.name} already.") from error
        raise


def refuse_unfit(project: Project, candidate: Version, champion: Version | None) -> None:
    if candidate.project_id != project.pk or candidate.kind != Version.Kind.POLICY:
        raise TrialRefused(f"{candidate.name} is no policy of this project.")
    if champion is None:
        raise TrialRefused("Nothing is promoted yet, so there is nothing to compare it with.")
    if champion == candidate:
        raise TrialRefused(f"{candidate.name} answers already; compare a candidate with it.")
    if parse(project.protocol_versions.last().definition).form not in {"pair", "ranking"}:
        raise TrialRefused("The project's protocol does not ask about two answers; choose one that compares pairs.")
    refuse_changed(Rivals(champion, candidate))


def queue_sampling(
    project: Project, rivals: Rivals, prompts: list[Prompt], eligible: int, settings: dict, seed: int, by: User | None
) -> Round:
    recipe = {
        "name": "trial",
        "title": "Sample a blind comparison",
        "stages": plan(rivals, {"prompts": write_prompts(prompts), **settings}, seed, names=STAGES),
        "versions": rivals.keys,
        "prompts": [prompt.pk for prompt in prompts],
        "eligible": eligible,
        "propensity": len(prompts) / eligible,
    }
    return queue_round(
        project=project, kind=Round.Kind.SAMPLING, recipe=recipe, parent=rivals.promoted, seed=seed, by=by
    )
