"""What the chat page shows: where the conversation is, and what comes next."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from labelapp.chat import events
from labelapp.chat.actions import (
    LONGEST_PROMPT,
    MOST_TURNS,
    State,
    latest_protocol,
    messages_after,
    open_conversation,
    sides_of,
)
from labelapp.chat.draw import any_candidate
from labelapp.chat.run import give_up_stale
from labelapp.labeling.actions import protocol_of
from labelapp.labeling.desk import Step, steps
from labelapp.labeling.protocol import SAFETY, Protocol
from labelapp.labeling.text.render import render_markdown
from labelapp.models import ChatSide, ChatTurn, Conversation, Project

PAST = 10  # conversations listed


@dataclass(frozen=True)
class Answering:
    """A turn whose answers are on the page, and the form that judges them."""

    turn: ChatTurn
    protocol: Protocol
    sides: list[dict]  # {"place", "letter", "text", "length", "html": where it is complete}
    asked: str
    stream: str  # how far the page has come, for the event stream
    kept: Mapping[str, str]  # what a refused form said: a QueryDict, or nothing

    @property
    def is_pair(self) -> bool:
        return self.protocol.is_pair(len(self.sides))

    @property
    def is_open(self) -> bool:
        """Whether text may still come."""
        return self.turn.state in (State.WAITING, State.RUNNING)

    @property
    def steps(self) -> list[Step]:
        return steps(self.protocol)

    @property
    def reasons(self) -> list[str]:
        return self.kept.getlist("reasons") if self.kept else []

    @property
    def rated(self) -> list[dict]:
        """For every answer the protocol's criteria, each with its field and what was said."""
        return [side | {"questions": [*self._questions(side["place"])]} for side in self.sides]

    def _questions(self, place: int) -> Iterator[dict]:
        for criterion in self.protocol.criteria:
            field = f"rating_{criterion.key}_{place}"
            said = self.kept.get(field, "")
            yield {"row": criterion, "field": field, "values": [*map(str, criterion.values)], "said": said}
        if self.protocol.safety:
            field = f"safety_{place}"
            yield {"safety": SAFETY, "field": field, "said": self.kept.get(field, "")}


def read_page(project: Project, labeler, kept: Mapping[str, str]) -> dict:
    """The open conversation and its last turn, or an empty page. kept: what a form said that was refused."""
    conversation = open_conversation(project=project, labeler=labeler)
    turn = conversation.turns.select_related("protocol").last() if conversation else None
    if turn and turn.state == State.RUNNING:
        give_up_stale(turn.pk)
        turn.refresh_from_db()
    protocol = latest_protocol(project)
    guideline = project.guideline_versions.last()
    goes_on = turn is None or (turn.state == State.JUDGED and turn.continued is not None)
    may_ask = goes_on and protocol is not None and (turn is None or turn.number < MOST_TURNS)
    return {
        "section": "chat",
        "chats": protocol is not None,
        "conversation": conversation,
        "turn": turn,
        "most_turns": MOST_TURNS,
        "longest_prompt": LONGEST_PROMPT,
        "guideline": guideline and {"number": guideline.number, "html": render_markdown(guideline.text)},
        "talk": talk(turn, goes_on),
        "answering": answering(turn, kept) if turn and not goes_on else None,
        "kept": kept,
        "may_ask": may_ask,
        "can_answer": may_ask and any_candidate(project),
        "next_number": turn.number + 1 if turn else 1,
        "past": Conversation.objects.filter(project=project, labeler=labeler, ended_at__isnull=False)[:PAST],
    }


def talk(turn: ChatTurn | None, goes_on: bool) -> list[dict]:
    """The turns above what the page is about: all of them, or all before the prompt that is being answered."""
    if turn is None:
        return []
    messages = messages_after(turn) if goes_on else turn.messages[:-1]
    return [message | {"html": render_markdown(message["content"])} for message in messages]


def answering(turn: ChatTurn, kept: Mapping[str, str]) -> Answering:
    rows = sides_of(turn)
    return Answering(
        turn=turn,
        protocol=protocol_of(turn.protocol_id),
        sides=[shown(row) for row in rows],
        asked=render_markdown(turn.messages[-1]["content"]),
        stream=events.position(turn.attempt, [len(row.text) for row in rows]),
        kept=kept,
    )


def shown(side: ChatSide) -> dict:
    """What a labeler may know of an answer: never who wrote it."""
    html = render_markdown(side.text) if side.finish and side.finish != events.FAILED else ""
    return {"place": side.place, "letter": side.letter, "text": side.text, "length": len(side.text), "html": html}


def read_past(conversation: Conversation) -> list[dict]:
    """An ended conversation's judged turns, with the names of the models."""
    turns = conversation.turns.filter(state=State.JUDGED).prefetch_related("sides__version", "sides__upstream")
    return [
        {
            "turn": turn,
            "asked": render_markdown(turn.messages[-1]["content"]),
            "sides": [
                {
                    "letter": side.letter,
                    "author": side.author,
                    "html": render_markdown(side.text),
                    "chosen": side.place == turn.continued,
                }
                for side in turn.sides.all()
            ],
        }
        for turn in turns
    ]
