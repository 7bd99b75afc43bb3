"""The leaderboard: a page, and the same numbers as JSON and CSV."""

import csv
from typing import NamedTuple

from django.db import OperationalError, transaction
from django.http import HttpRequest, HttpResponse
from django.template.response import TemplateResponse
from django.utils.translation import gettext as _
from django.views.decorators.http import require_safe
from drf_spectacular.utils import OpenApiParameter, OpenApiTypes, extend_schema
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from labelapp.accounts.permissions import project_page
from labelapp.datasets.api import project_for
from labelapp.datasets.row_views import limit_statements
from labelapp.leaderboard.standings import board_of
from labelapp.models import Project

WIDTH, ROW, LEFT, RIGHT = 640, 26, 170, 16
COLUMNS = ("block", "model", "rating", "low", "high", "rank_best", "rank_worst", "wins", "ties", "losses", "prompts")
ASKED = [
    OpenApiParameter("style", bool, description="Hold length, headers, lists and bold equal."),
    OpenApiParameter("category", str, description="key=value of the prompts' metadata."),
]


@require_safe
@project_page("research")
def leaderboard(request: HttpRequest, project: Project) -> HttpResponse:
    """Versions and other models by what people preferred, all of it or one category, with or without style control."""
    asked = asked_of(request.GET)
    context = {"section": "versions", "asked": asked, "category": request.GET.get("category", "")}
    try:
        with transaction.atomic():
            limit_statements()
            board = board_of(project, **asked)
    except OperationalError:
        return TemplateResponse(request, "leaderboard/leaderboard.html", context | {"too_slow": True}, status=503)
    blocks = [Block(standings, drawing_of(standings)) for standings in board["blocks"]]
    versions = set(project.versions.values_list("name", flat=True))
    effects = [effect | {"name": style_name(effect["style"])} for effect in board["effects"]]
    context |= {"board": board, "blocks": blocks, "versions": versions, "effects": effects}
    context |= {"query": request.GET.urlencode()}
    return TemplateResponse(request, "leaderboard/leaderboard.html", context)


def asked_of(query) -> dict:
    """style, key and value from an address's query."""
    key, equals, value = query.get("category", "").partition("=")
    style = query.get("style", "") in ("1", "true", "on")
    return {"style": style, "key": key if equals else "", "value": value if equals else ""}


def style_name(style: str) -> str:
    return {"length": _("Length"), "headers": _("Headers"), "lists": _("List items"), "bold": _("Bold text")}[style]


class Mark(NamedTuple):
    """A model in the drawing: the height of its row, and where its rating and its interval lie."""

    standing: dict
    y: float
    x: float
    low: float | None
    high: float | None


class Drawing(NamedTuple):
    """Ratings from left to right; ticks: (place, points)."""

    marks: list[Mark]
    ticks: list[tuple[float, int]]
    width: int
    height: int
    left: int = LEFT


class Block(NamedTuple):
    """Models that comparisons join."""

    standings: list[dict]
    drawing: Drawing


def drawing_of(standings: list[dict]) -> Drawing:
    known = [each[end] for each in standings for end in ("rating", "low", "high") if each[end] is not None]
    lowest, span = min(known), max(max(known) - min(known), 20.0)

    def x(points: float | None) -> float | None:
        return None if points is None else round(LEFT + (points - lowest) / span * (WIDTH - LEFT - RIGHT), 1)

    step = next(size for size in (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000) if span / size <= 6)
    first = -int(-lowest // step) * step
    ticks = [(x(points), points) for points in range(first, int(lowest + span) + 1, step)]
    marks = [
        Mark(each, ROW * place + ROW / 2, x(each["rating"]), x(each["low"]), x(each["high"]))
        for place, each in enumerate(standings)
    ]
    return Drawing(marks, ticks, WIDTH, ROW * len(standings) + 22)


class Leaderboard(APIView):
    """The leaderboard as JSON: blocks of models that comparisons join, each with rating, interval, ranks and counts."""

    @extend_schema(parameters=ASKED, responses={200: OpenApiTypes.OBJECT})
    def get(self, request: Request, slug: str) -> Response:
        return Response(board_of(project_for(request, slug), **asked_of(request.query_params)))


class LeaderboardFile(APIView):
    """The same as CSV, one model a line; `block` numbers the sets of models that nothing joins."""

    @extend_schema(parameters=ASKED, responses={(200, "text/csv"): OpenApiTypes.STR})
    def get(self, request: Request, slug: str) -> HttpResponse:
        board = board_of(project_for(request, slug), **asked_of(request.query_params))
        response = HttpResponse(content_type="text/csv; charset=utf-8")
        response.headers["Content-Disposition"] = f'attachment; filename="{slug}-leaderboard.csv"'
        lines = csv.writer(response)
        lines.writerow(COLUMNS)
        for number, block in enumerate(board["blocks"], 1):
            for each in block:
                ranks = each["ranks"] or ("", "")
                said = {"block": number, "rank_best": ranks[0], "rank_worst": ranks[1], **each}
                lines.writerow([as_cell(said[column]) for column in COLUMNS])
        return response


def as_cell(value) -> str:
    """A spreadsheet takes a text that begins with one of =+-@ for a formula; a model's name is none."""
    text = "" if value is None else str(value)
    return f"'{text}" if isinstance(value, str) and text[:1] in ("=", "+", "-", "@") else text
