"""The section of the page that htmx swaps in, without rendering its template for each item.

What the template makes of one kind of item is kept as its text with holes; an item of that kind is put into the holes.
A kind names everything that the template decides on, and the text is rendered from the kind alone: what belongs to one
person or one item cannot stay in it.
"""

import re
from functools import lru_cache
from secrets import token_hex
from typing import Any, NamedTuple

from django.template.loader import render_to_string
from django.utils.html import escape
from django.utils.translation import get_language

from labelapp.labeling.desk import Desk, Item, response, steps
from labelapp.labeling.fields import raw_text
from labelapp.labeling.protocol import Protocol
from labelapp.models import Project, Skip, Slot

TEMPLATE = "labeling/_comparison.html"
HOLE = token_hex(16)  # nobody can write what is taken for a hole
UNUSUAL = ("kept", "refusal", "outcome", "news")


class Kind(NamedTuple):
    """What two items have in common whose sections differ in nothing but the texts in their holes."""

    language: str
    slug: str
    minimum_seconds: float
    protocol: Protocol
    size: int
    roles: tuple[str, ...]  # of the turns before the last
    short: bool
    purpose: str
    announced: bool
    guided: bool
    capped: bool
    usual: bool
    last: tuple[bool, bool, bool] | None  # corrected, withdrawn, surplus


def section_of(context: dict[str, Any], project: Project) -> str | None:
    """The section; None where it shows something out of the usual, which the template is to render."""
    item: Item | None = context["item"]
    if item is None or item.slot.note or any(context.get(name) for name in UNUSUAL):
        return None
    values = values_of(context)
    first, *rest = text_with_holes(kind_of(context, project))
    return first + "".join([values[name] + text for name, text in rest])


def kind_of(context: dict[str, Any], project: Project) -> Kind:
    desk, item = context["desk"], context["item"]
    last = desk.last and tuple(bool(desk.last[name]) for name in ("corrected", "withdrawn", "surplus"))
    return Kind(
        get_language() or "", project.slug, project.minimum_seconds, item.protocol, len(item.responses),
        tuple([turn["role"] for turn in item.turns]), item.asked["short"], item.slot.purpose, bool(context["announce"]),
        desk.guideline is not None, context["cap"] is not None, bool(desk.usual), last,
    )  # fmt: skip


def values_of(context: dict[str, Any]) -> dict[str, str]:
    """What goes into the holes, by their names, as HTML."""
    desk, item = context["desk"], context["item"]
    values = {name: str(value) for name, value in context["hidden"].items()}
    values |= {"csrf_token": context["csrf_token"], "announce": escape(context["announce"])}
    values |= {"judged": str(desk.judged), "today": str(desk.judged_today), "usual": str(desk.usual)}
    values |= {"cap": str(context["cap"]), "protocol": str(item.protocol_id), "asked": item.asked["html"]}
    if desk.last:
        values["last"] = str(desk.last["id"])
    if desk.guideline:
        values |= {"guideline": desk.guideline["html"], "number": str(desk.guideline["number"])}
    for number, turn in enumerate(item.turns):
        values[f"turn{number}"] = turn["html"]
    for shown in item.responses:
        values[f"html{shown['place']}"] = shown["html"]
        values[f"text{shown['place']}"] = raw_text(shown["text"])[1:]  # its newline stands before the hole
    return values


@lru_cache(maxsize=256)
def text_with_holes(kind: Kind) -> list[Any]:
    """The text before the first hole, then each hole's name with the text after it."""
    text, *rest = re.split(f"{HOLE}([a-z_]+[0-9]*);", render_to_string(TEMPLATE, _context(kind)))
    return [text, *zip(rest[::2], rest[1::2], strict=True)]


def hole(name: str) -> str:
    return f"{HOLE}{name};"


def _context(kind: Kind) -> dict[str, Any]:
    """The page's context with a hole for everything that the kind does not say."""
    item = _item(kind)
    hidden = {name: hole(name) for name in ("claim", "slot", "submission_id", "active_seconds")}
    return {
        "project": Project(slug=kind.slug, minimum_seconds=kind.minimum_seconds), "desk": _desk(kind, item),
        "item": item, "announce": hole("announce") if kind.announced else "", "skip_reasons": Skip.Reason.choices,
        "csrf_token": hole("csrf_token"), "hidden": hidden, "cap": hole("cap") if kind.capped else None,
    }  # fmt: skip


def _desk(kind: Kind, item: Item) -> Desk:
    last = kind.last and dict(zip(("corrected", "withdrawn", "surplus"), kind.last, strict=True)) | {"id": hole("last")}
    guideline = {"number": hole("number"), "html": hole("guideline")} if kind.guided else None
    return Desk(hole("judged"), hole("today"), hole("usual") if kind.usual else None, last, guideline, item, None)


def _item(kind: Kind) -> Item:
    turns = [{"role": role, "html": hole(f"turn{number}")} for number, role in enumerate(kind.roles)]
    return Item(
        slot=Slot(purpose=kind.purpose), protocol=kind.protocol, protocol_id=hole("protocol"), turns=turns,
        asked={"html": hole("asked"), "number": len(turns) + 1, "short": kind.short},
        responses=[response(place, hole(f"text{place}"), hole(f"html{place}")) for place in range(kind.size)],
        steps=steps(kind.protocol), draft=None,
    )  # fmt: skip
