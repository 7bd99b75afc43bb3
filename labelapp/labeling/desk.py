"""What lies before a labeler: the item, the guidelines, how far they are. Never who wrote it, never others' answers."""

from dataclasses import dataclass
from datetime import timedelta
from math import ceil

from django.db.models import (
    Count,
    DurationField,
    ExpressionWrapper,
    F,
    IntegerField,
    JSONField,
    Min,
    Q,
    Subquery,
)
from django.db.models.functions import Coalesce, JSONObject, Now

from labelapp.labeling.render import render_markdown
from labelapp.models import ComparisonCompletion, GuidelineVersion, Judgment, Project, Slot

GRADES = {3: "far better", 2: "better", 1: "slightly better"}
MARKS = {-3: "‹‹‹", -2: "‹‹", -1: "‹", 0: "=", 1: "›", 2: "››", 3: "›››"}


@dataclass(frozen=True)
class Step:
    """One pill of the answer bar."""

    value: int
    key: int
    side: str
    grade: str
    mark: str


@dataclass(frozen=True)
class Item:
    """A slot's prompt and responses as they are shown, in the slot's order."""

    slot: Slot
    turns: list[dict]
    asked: dict
    responses: list[dict]
    question: str
    steps: list[Step]
    both_bad: bool

    @property
    def is_pair(self) -> bool:
        return len(self.responses) == 2

    @property
    def ends(self) -> list[Step]:
        """The outermost steps, named under the row on a phone."""
        return [self.steps[0], self.steps[-1]]


@dataclass(frozen=True)
class Desk:
    """The page of one labeler: an item, or why there is none."""

    judged: int
    last: dict | None  # {"id", "withdrawn", "surplus"} of the labeler's last judgment in the project
    guideline: dict | None  # {"id", "number", "html"}
    item: Item | None
    waiting: dict | None


def open_desk(*, project: Project, labeler, slot: Slot | None) -> Desk:
    """Everything the page shows, in one query where there is an item and in two where there is none."""
    about = _about(project, labeler)
    if slot is None:
        row = Project.objects.filter(pk=project.pk).values(**about).get()
        return _desk(row, None, _waiting(project, labeler))
    rows = _texts(slot).values(
        "position",
        text=F("completion__text"),
        messages=F("comparison__prompt__messages"),
        definition=F("comparison__protocol__definition"),
        **about,
    )
    rows = {row["position"]: row for row in rows}
    first = rows[0]
    return _desk(first, _item(slot, [rows[position] for position in slot.display_order]), None)


def _texts(slot: Slot):
    return ComparisonCompletion.objects.filter(comparison=slot.comparison_id)


def _about(project: Project, labeler) -> dict:
    """Columns on the labeler and the guidelines, to ride along with another query."""
    mine = Judgment.objects.filter(labeler=labeler, comparison__project=project).order_by("-created_at", "-pk")
    done = Slot.objects.filter(project=project, labeler=labeler, state=Slot.State.DONE).order_by()
    guideline = GuidelineVersion.objects.filter(project=project).order_by("-number")
    count = done.values("project").annotate(n=Count("pk")).values("n")
    last = JSONObject(id="pk", withdrawn="withdrawn", surplus="surplus")
    told = JSONObject(id="pk", number="number", text="text")
    return {
        "judged": Coalesce(Subquery(count, output_field=IntegerField()), 0),
        "last": Subquery(mine.values(json=last)[:1], output_field=JSONField()),
        "guideline": Subquery(guideline.values(json=told)[:1], output_field=JSONField()),
    }


def _desk(row: dict, item: Item | None, waiting: dict | None) -> Desk:
    guideline = row["guideline"]
    if guideline:
        guideline = guideline | {"html": render_markdown(guideline.pop("text"))}
    return Desk(row["judged"], row["last"], guideline, item, waiting)


def _item(slot: Slot, shown: list[dict]) -> Item:
    protocol = shown[0]["definition"]
    turns = [turn | {"html": render_markdown(turn["content"])} for turn in shown[0]["messages"]]
    most = min(protocol.get("max_strength", 3), max(GRADES))
    return Item(
        slot=slot,
        turns=turns[:-1],
        asked=turns[-1] | {"number": len(turns), "short": len(turns[-1]["content"]) <= 240},
        responses=[
            {"place": place, "letter": chr(ord("A") + place), "html": render_markdown(row["text"])}
            for place, row in enumerate(shown)
        ],
        question=protocol.get("question", "Which response is better?"),
        steps=steps(most=most, tie=protocol.get("tie", True)),
        both_bad=protocol.get("both_bad", True),
    )


def steps(*, most: int, tie: bool) -> list[Step]:
    """The grades from left to right, with keys from 1: seven for a most of 3 and a tie."""
    values = [value for value in range(-most, most + 1) if value or tie]
    words = GRADES if most > 1 else {1: "better"}
    return [
        Step(value, key, "" if not value else "A" if value < 0 else "B", words.get(abs(value), "equal"), MARKS[value])
        for key, value in enumerate(values, start=1)
    ]


def _waiting(project: Project, labeler) -> dict:
    """How many items that this person could judge are with others, and in how many minutes the first lease runs out."""
    mine = Q(comparison__slots__labeler=labeler) | Q(comparison__judgments__labeler=labeler)
    judged = Slot.objects.filter(mine, project=project).values("comparison")
    elsewhere = Slot.objects.filter(project=project, state=Slot.State.LEASED).exclude(comparison__in=judged)
    wait = ExpressionWrapper(Min("lease_until") - Now(), output_field=DurationField())
    found = elsewhere.aggregate(items=Count("comparison", distinct=True), wait=wait)
    seconds = max(found["wait"] or timedelta(0), timedelta(seconds=1)).total_seconds()
    return {"items": found["items"], "minutes": ceil(seconds / 60)}
