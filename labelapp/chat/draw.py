"""Which models answer a turn, and with what probability. The order of the answers is random too."""

import random
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from math import comb

from django.db.models import QuerySet
from django.utils.translation import gettext as _

from labelapp.chat.refusals import NothingToAsk
from labelapp.labeling.protocol import Protocol
from labelapp.models import ChatSide, ChatTurn, EngineVersion, Project, UpstreamModel, Version

MOST_COLUMNS = 4  # in the first turn of a conversation that is rated (PRISM, arXiv:2404.16019)
SAMPLING = {"temperature": 1.0, "max_tokens": 512}
SEEDS = 2**31

Model = Version | UpstreamModel


@dataclass(frozen=True)
class Draw:
    """Models by place, and how probable it was to draw just these."""

    models: tuple[Model, ...]
    propensity: float


def candidates(project: Project) -> list[Model]:
    """The policies that the engine holds (the served one, its parent, others kept), and the upstream models in use."""
    return [model for rows in _candidates(project) for model in rows.order_by("pk")]


def any_candidate(project: Project) -> bool:
    """Whether a prompt would be answered now."""
    return any(rows.exists() for rows in _candidates(project))


def _candidates(project: Project) -> tuple[QuerySet[Version], QuerySet[UpstreamModel]]:
    ready = Version.objects.filter(project=project, kind=Version.Kind.POLICY, engine__state=EngineVersion.State.READY)
    return ready, project.upstream_models.filter(disabled_at=None)


def draw(models: Sequence[Model], count: int, rng: random.Random | None = None) -> Draw:
    """`count` different models in random order; one model alone answers twice. Raises NothingToAsk."""
    rng = rng or random.SystemRandom()
    if not models:
        raise NothingToAsk(_("No model can answer now. An admin promotes a version or adds an upstream model."))
    if len(models) == 1:
        return Draw((models[0], models[0]), 1.0)
    count = min(count, len(models))
    return Draw(tuple(rng.sample(list(models), count)), 1 / comb(len(models), count))


def draw_for(turn_number: int, protocol: Protocol, models: Sequence[Model], winner: Model | None) -> Draw:
    """Who answers: a pair, drawn anew each turn; when rating, several at first and then the winner at two draws."""
    if protocol.form != "rating":
        return draw(models, 2)
    return draw(models, MOST_COLUMNS) if turn_number == 1 or winner is None else Draw((winner, winner), 1.0)


def place_sides(turn: ChatTurn, models: Iterable[Model], rng: random.Random | None = None) -> None:
    """The turn's empty answers, each with a seed of its own."""
    rng = rng or random.SystemRandom()
    ChatSide.objects.bulk_create(
        ChatSide(
            turn=turn,
            place=place,
            version=model if isinstance(model, Version) else None,
            upstream=model if isinstance(model, UpstreamModel) else None,
            sampling={**SAMPLING, "seed": rng.randrange(SEEDS)},
        )
        for place, model in enumerate(models)
    )
