"""What lies before a labeler: the item, the guidelines, how far they are. Never who wrote it, never others' answers."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from django.db import connection
from django.utils.translation import gettext_noop

from labelapp.labeling.empty import why_empty
from labelapp.labeling.protocol import Protocol, parse
from labelapp.labeling.quality.quiz import begin_quiz
from labelapp.labeling.queue import CLAIM, claim_values, claiming
from labelapp.labeling.text.render import render_markdown
from labelapp.labeling.words import graded
from labelapp.models import Project, Slot
from labelapp.models.prepared import as_instance, columns, read_rows

MARKS = {size * sign: ("‹" if sign < 0 else "›") * size for size in range(1, 5) for sign in (-1, 1)} | {0: "="}

# What the page says about the labeler and the project, to ride along with another query. `last` is looked for among
# their latest 200 in all projects: somebody new here may have half a million elsewhere.
ABOUT = """
(SELECT COALESCE(sum(judged), 0) FROM labelapp_workday
 WHERE project_id = %(project)s AND labeler_id = %(labeler)s)::int AS judged,
(SELECT COALESCE(sum(judged), 0) FROM labelapp_workday WHERE project_id = %(project)s AND labeler_id = %(labeler)s
 AND day = (statement_timestamp() AT TIME ZONE 'UTC')::date)::int AS judged_today,
(SELECT round(avg(judged)) FROM (
   SELECT judged FROM labelapp_workday WHERE project_id = %(project)s AND labeler_id = %(labeler)s AND judged > 0
   AND day < (statement_timestamp() AT TIME ZONE 'UTC')::date ORDER BY day DESC LIMIT 7) days)::int AS usual,
(SELECT json_build_object('id', j.id, 'withdrawn', j.withdrawn, 'surplus', j.surplus,
   'corrected', EXISTS (SELECT FROM labelapp_judgment newer WHERE newer.replaces_id = j.id))
 FROM (SELECT * FROM labelapp_judgment WHERE labeler_id = %(labeler)s AND implied_by_id IS NULL
       ORDER BY created_at DESC, id DESC LIMIT 200) j JOIN labelapp_comparison c ON c.id = j.comparison_id
 WHERE c.project_id = %(project)s
   AND NOT EXISTS (SELECT FROM labelapp_review r WHERE r.correction_id = j.id)
 ORDER BY j.created_at DESC, j.id DESC LIMIT 1)::text AS last,
(SELECT json_build_object('id', g.id, 'number', g.number, 'text', g.text) FROM labelapp_guidelineversion g
 WHERE g.project_id = %(project)s ORDER BY g.number DESC LIMIT 1)::text AS guideline
"""
SHOWN = f"""
SELECT {columns(Slot, "claimed")}, prompt.messages::text AS messages, comparison.protocol_id,
  protocol.definition::text AS definition,
  ARRAY(SELECT completion.text FROM labelapp_comparisoncompletion place
        JOIN labelapp_completion completion ON completion.id = place.completion_id
        WHERE place.comparison_id = comparison.id ORDER BY place.position) AS texts,
  (SELECT draft.body::text FROM labelapp_draft draft
   WHERE draft.comparison_id = comparison.id AND draft.labeler_id = %(labeler)s) AS draft, {ABOUT}
FROM claimed JOIN labelapp_comparison comparison ON comparison.id = claimed.comparison_id
  JOIN labelapp_prompt prompt ON prompt.id = comparison.prompt_id
  JOIN labelapp_protocolversion protocol ON protocol.id = comparison.protocol_id
"""
GIVEN = "WITH claimed AS (SELECT * FROM labelapp_slot WHERE id = %(slot)s)"


# The same for everybody and every item, so a process makes them once.
guideline_html = lru_cache(maxsize=64)(render_markdown)
protocol_in = lru_cache(maxsize=256)(lambda definition: parse(json.loads(definition)))


@dataclass(frozen=True)
class Step:
    """One pill of the answer bar."""

    value: int
    key: int
    side: str
    grade: str
    mark: str

    @property
    def label(self) -> str:
        return graded(self.side, self.grade)


@dataclass(frozen=True)
class Item:
    """A slot's prompt and responses as they are shown, in the slot's order."""

    slot: Slot
    protocol: Protocol
    protocol_id: int
    turns: list[dict]  # {"role", "content", "html"} before the last
    asked: dict  # the last turn
    responses: list[dict]  # {"place", "letter", "text", "html"}
    steps: list[Step]
    draft: dict | None  # the labeler's unfinished answer, as the form's fields

    @property
    def question(self) -> str:
        return self.protocol.question


@dataclass(frozen=True)
class Desk:
    """The page of one labeler: an item, or why there is none."""

    judged: int
    judged_today: int
    usual: int | None  # judged on a usual day: the mean of the last seven on which they judged anything
    last: dict | None  # {"id", "withdrawn", "surplus", "corrected"} of the labeler's last judgment in the project
    guideline: dict | None  # {"id", "number", "text", "html"}
    item: Item | None
    empty: dict | None  # why there is no item, as why_empty() says it


def open_desk(*, project: Project, labeler, holding: Sequence[int] = (), slot: Slot | None = None) -> Desk:
    """Claim the next item, or take the slot that is given, and read all that the page shows.

    One statement where there is an item, and two more where there is none.
    """
    if slot is not None:
        values = {"slot": slot.pk, "project": project.pk, "labeler": labeler.pk}
        found = _first(GIVEN + SHOWN, values)
    else:
        values = claim_values(project=project, labeler=labeler, holding=holding)
        found = claiming(lambda: _first(CLAIM + SHOWN, values))
    if found is None and slot is None and begin_quiz(project=project, labeler=labeler):
        found = claiming(lambda: _first(CLAIM + SHOWN, values))
    if found is None:
        return _empty(project, labeler, len(holding))
    return _desk(vars(found), read_item(found), None)


def _first(query: str, values: dict) -> Slot | None:
    return next((as_instance(Slot, row) for row in read_rows(query, values)), None)


def _empty(project: Project, labeler, in_hand: int) -> Desk:
    with connection.cursor() as cursor:
        cursor.execute(f"SELECT {ABOUT}", {"project": project.pk, "labeler": labeler.pk})
        row = dict(zip([column.name for column in cursor.description], cursor.fetchone(), strict=True))
    return _desk(row, None, why_empty(project=project, labeler=labeler, judged_today=row["judged_today"] + in_hand))


def _desk(row: dict, item: Item | None, empty: dict | None) -> Desk:
    guideline = row["guideline"] and json.loads(row["guideline"])
    if guideline:
        guideline |= {"html": guideline_html(guideline["text"])}
    last = row["last"] and json.loads(row["last"])
    return Desk(row["judged"], row["judged_today"], row["usual"], last, guideline, item, empty)


def read_item(row: Slot) -> Item:
    """The item of a slot that was read with what SHOWN adds to it."""
    texts = [row.texts[position] for position in row.display_order]
    draft = row.draft and json.loads(row.draft)
    return make_item(
        slot=row, protocol=protocol_in(row.definition), protocol_id=row.protocol_id,
        messages=json.loads(row.messages), texts=texts, draft=draft,
    )  # fmt: skip


def make_item(
    *, slot: Slot, protocol: Protocol, protocol_id: int, messages: list[dict], texts: list[str], draft: dict | None
) -> Item:
    """The item as it is shown: texts in the order of their places."""
    turns = [turn | {"html": render_markdown(turn["content"])} for turn in messages]
    return Item(
        slot=slot,
        protocol=protocol,
        protocol_id=protocol_id,
        turns=turns[:-1],
        asked=turns[-1] | {"number": len(turns), "short": len(turns[-1]["content"]) <= 240},
        responses=[response(place, text, render_markdown(text)) for place, text in enumerate(texts)],
        steps=steps(protocol),
        draft=draft,
    )


def response(place: int, text: str, html: str) -> dict[str, Any]:
    return {"place": place, "letter": chr(ord("A") + place), "text": text, "html": html}


@lru_cache(maxsize=256)
def steps(protocol: Protocol) -> list[Step]:
    """The grades from left to right, with keys from 1: seven for a most of 3 and a tie."""
    most = protocol.max_strength
    values = [value for value in range(-most, most + 1) if value or protocol.tie]
    sides = {-1: "A", 0: "", 1: "B"}
    words = (gettext_noop("equal"), *protocol.words)
    return [
        Step(value, key, sides[(value > 0) - (value < 0)], words[abs(value)], MARKS[value])
        for key, value in enumerate(values, start=1)
    ]
