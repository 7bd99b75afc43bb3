"""From standing judgments to outcomes between two authors, each with its prompt, its category and both texts' style."""

from collections.abc import Iterator
from itertools import combinations
from typing import Any, NamedTuple

from django.db.models import Exists, F, OuterRef, Prefetch, Q, QuerySet

from labelapp.datasets.aggregate import latest_votes
from labelapp.datasets.freeze import counts_as_vote, vote_of
from labelapp.leaderboard.davidson import FIRST, SECOND, TIE
from labelapp.leaderboard.style import Style, style_of
from labelapp.models import Comparison, ComparisonCompletion, Judgment, Project

MOST = 20_000  # comparisons, the newest
OUTCOMES = {"first": FIRST, "second": SECOND, "tie": TIE, "both_bad": TIE}


class Battle(NamedTuple):
    """One person's word on two answers to one prompt by different authors. Both bad counts as a tie."""

    prompt: int
    first: str
    second: str
    outcome: int
    styles: tuple[Style, Style] | None  # where they were asked for
    categories: dict[str, str]


def battles_of(project: Project, *, style: bool = False) -> list[Battle]:
    """Every vote on a pair of different authors, in the newest comparisons; what checks a labeler is no vote.

    style: count what the texts look like too, which takes a while.
    """
    return [battle for comparison in compared(project, style=style) for battle in _battles(comparison, style)]


def compared(project: Project, *, style: bool = False) -> QuerySet[Comparison]:
    """Comparisons of answers by different authors, newest first; their texts only where style is asked for."""
    other = ComparisonCompletion.objects.filter(comparison=OuterRef("comparison")).exclude(
        Q(completion__version=OuterRef("completion__version"))
        | Q(completion__version__isnull=True, completion__author=OuterRef("completion__author"))
    )
    mixed = ComparisonCompletion.objects.filter(Exists(other), comparison=OuterRef("pk"), position=0)
    votes = Judgment.objects.standing().filter(Q(ranking__isnull=False) | Q(both_bad=True))
    wanted = ["comparison", "position", "completion__author", "completion__version__name"]
    wanted += ["completion__text"] if style else []
    places = ComparisonCompletion.objects.select_related("completion__version").only(*wanted).order_by("position")
    return (
        Comparison.objects.filter(Exists(mixed), project=project)
        .annotate(metadata=F("prompt__metadata"))
        .prefetch_related(
            Prefetch("judgments", votes.select_related("protocol", "slot").order_by("pk"), "standing"),
            Prefetch("comparisoncompletion_set", places, "places"),
        )
        .order_by("-pk")[:MOST]
    )


def _battles(comparison: Comparison, style: bool) -> Iterator[Battle]:
    votes = latest_votes(vote_of(row) for row in comparison.standing if counts_as_vote(row, comparison))
    if not votes:
        return
    answers = [place.completion for place in comparison.places]
    authors = [answer.version.name if answer.version else answer.author for answer in answers]
    styles = [style_of(answer.text) for answer in answers] if style else None
    categories = categories_of(comparison.metadata)
    for one, two in combinations(range(len(answers)), 2):
        for vote in votes if authors[one] != authors[two] else ():
            if said := vote.prefers(one, two):
                pair = (authors[one], authors[two])
                both = (styles[one], styles[two]) if styles else None
                yield Battle(comparison.prompt_id, *pair, OUTCOMES[said], both, categories)


def categories_of(metadata: Any) -> dict[str, str]:
    """What a prompt's metadata says in single short values."""
    pairs = metadata.items() if isinstance(metadata, dict) else ()
    return {key: str(value) for key, value in pairs if isinstance(value, str | int | bool) and len(str(value)) <= 80}


def choices_of(battles: list[Battle], most: int = 30) -> dict[str, list[str]]:
    """Categories that a person may choose from: each key with its values, where there are 2 to `most` of them."""
    values: dict[str, set[str]] = {}
    for battle in battles:
        for key, value in battle.categories.items():
            values.setdefault(key, set()).add(value)
    return {key: sorted(found) for key, found in sorted(values.items()) if 2 <= len(found) <= most}
