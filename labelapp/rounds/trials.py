"""Blind comparisons of a candidate with the version that answers: what people said so far, and when it is enough."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, NamedTuple

import structlog
from django.db import transaction
from django.db.models.functions import Now

from labelapp.models import Comparison, ComparisonCompletion, Judgment, Round, Slot, Trial, User, Version

if TYPE_CHECKING:
    from labelapp.rounds.sequential import Counts

HUMAN = "human_win_rate"  # the figure's key in the gate
WIN, TIE, LOSS = 1.0, 0.5, 0.0
log = structlog.get_logger(__name__)


class Standing(NamedTuple):
    """Where a trial stands. `decided` is empty while it is open to both."""

    counts: Counts
    low: float
    high: float
    decided: str


def results_of(trial: Trial) -> list[float]:
    """1, 0 or a half for the candidate, one a comparison, in the order of the judgments; both bad is a tie.

    Of a comparison that several people judged the first counts: then every prompt counts once.
    """
    rows = Judgment.objects.standing().filter(comparison__round=trial.round_id, surplus=False, implied_by=None)
    said: dict[int, Judgment] = {}
    for row in rows.filter(slot__purpose=Slot.Purpose.WORK).order_by("pk"):
        said.setdefault(row.comparison_id, row)
    place = places_of(trial, trial.candidate_id)
    pairs = [(row, place[key]) for key, row in said.items() if key in place]
    return [found for row, mine in pairs if (found := result(row, mine)) is not None]


def places_of(trial: Trial, version: int) -> dict[int, int]:
    """At which position of each of its comparisons the version's answer stands."""
    rows = ComparisonCompletion.objects.filter(comparison__round=trial.round_id, completion__version=version)
    return dict(rows.values_list("comparison_id", "position"))


def result(judgment: Judgment, mine: int) -> float | None:
    """What a judgment says of the completion at this position; None where it compares nothing."""
    if judgment.both_bad:
        return TIE
    tiers = judgment.ranking or []
    if not tiers:
        return None
    if len(tiers) == 1:
        return TIE
    return WIN if mine in tiers[0] else LOSS


def counted(results: list[float]) -> Counts:
    from labelapp.rounds.sequential import Counts  # brings numpy, which few requests need

    found = Counter(results)
    return Counts(found[WIN], found[LOSS], found[TIE])


def standing_of(trial: Trial, results: list[float] | None = None) -> Standing:
    from labelapp.rounds.sequential import confidence_sequence, is_decided

    counts = counted(results_of(trial) if results is None else results)
    how = {"alpha": trial.alpha, "difference": trial.difference}
    return Standing(counts, *confidence_sequence(counts, **how), is_decided(counts, **how))


def settle_all() -> None:
    """End every trial that is decided or has no comparison left; one that fails does not keep the others waiting."""
    for trial in Trial.objects.filter(outcome="").select_related("round"):
        try:
            settle(trial)
        except Exception:
            log.exception("trial failed", trial=trial.pk)


def settle(trial: Trial) -> bool:
    """End the trial if the judgments decide it, or none can come any more. Whether it has ended now."""
    standing = standing_of(trial)
    if standing.decided:
        return end(trial, outcome=standing.decided, standing=standing)
    return is_over(trial) and end(trial, outcome=Trial.Outcome.UNDECIDED, standing=standing)


def is_over(trial: Trial) -> bool:
    """Whether nothing is left to judge: all places are taken, or the answers could not be sampled."""
    if trial.round.state in {Round.State.QUEUED, Round.State.RUNNING}:
        return False
    waiting = Slot.objects.filter(comparison__round=trial.round_id, state__in=[Slot.State.OPEN, Slot.State.LEASED])
    return not waiting.exists()


@transaction.atomic
def end(trial: Trial, *, outcome: str, by: User | None = None, standing: Standing | None = None) -> bool:
    """Write the outcome, once, and hand out nothing more; who has a comparison before them may still answer it."""
    standing = standing or standing_of(trial)
    record = standing.counts._asdict() | {"low": standing.low, "high": standing.high}
    open_now = Trial.objects.filter(pk=trial.pk, outcome="")
    if not open_now.update(outcome=outcome, counts=record, ended_by=by, ended_at=Now()):
        return False
    free = Slot.objects.filter(comparison__in=Comparison.objects.filter(round=trial.round_id), state=Slot.State.OPEN)
    free.leave(Slot.State.CLOSED)
    log.info("trial ended", trial=trial.pk, outcome=outcome, judged=standing.counts.n)
    return True


def human_metric(version: Version, champion: Version | None) -> dict[str, Any] | None:
    """The win rate that people gave the version over the champion, as the gate reads a figure; None without a trial.

    Its interval is the confidence sequence, so the gate may look at it at any time.
    """
    trial = Trial.objects.filter(candidate=version, champion=champion).order_by("-pk").first()
    if trial is None:
        return None
    standing = standing_of(trial)
    judged = standing.counts.n
    note = f"blind, {1 - trial.alpha:.0%} at all times together".replace("%", " %")
    return {
        "key": HUMAN, "value": standing.counts.rate, "low": standing.low, "high": standing.high, "n": judged,
        "clusters": judged, "unit": "share", "note": note, "baselines": {},
    }  # fmt: skip


class Step(NamedTuple):
    """Where a trial stood after so many judgments."""

    judged: int
    rate: float
    low: float
    high: float


def steps_of(trial: Trial, results: list[float], most: int = 40) -> Iterator[Step]:
    """The way of the win rate and its confidence sequence, at evenly spread numbers of judgments."""
    for number in sorted({max(1, round(len(results) * part / most)) for part in range(1, most + 1)} if results else []):
        standing = standing_of(trial, results[:number])
        yield Step(number, standing.counts.rate, standing.low, standing.high)
