"""What a row of a preference file says. Pure functions; every refusal is a BadRow with its reason.

Taken are TRL's preference format (explicit and implicit prompt, plain text and conversational), the whole dialogues
of HH-RLHF, rows of completions: our own judgments.jsonl, or open questions where no answer is given (one completion
to rate, or none where the labeler writes the answer); and fresh prompts.
"""

import re
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

from labelapp.datasets.row_answers import (
    MAX_NAME,
    Answer,
    BadRow,
    gold_in,
    moved,
    moved_gold,
    name_in,
    pair_strength,
    set_answer,
    text_in,
)
from labelapp.models import message_hash, text_hash

ROLES = {"system", "user", "assistant"}
DIALOGUE = re.compile(r"\n\n(Human|Assistant):")
SPEAKERS = {"Human": "user", "Assistant": "assistant"}
MAX_COMPLETIONS = 9
MAX_METADATA = 20
ANSWERS = ("ranking", "strength", "both_bad", "gold", "rewrite")  # what nobody can say of one completion, or of none


@dataclass(frozen=True)
class Row:
    """A prompt, its completions as (text, author), and an answer, or none where people here shall answer."""

    prompt: list[dict[str, str]]
    completions: list[tuple[str, str]]
    group: str | None
    answer: Answer | None
    overlap: int | None = None
    batch: str | None = None
    requires: tuple[str, ...] = ()
    gold: Any = None  # the known answer: then it checks people, and is nobody's work
    explanation: str = ""
    fresh: bool = False  # no completions: the policy is to answer
    metadata: dict[str, Any] = field(default_factory=dict)  # of a prompt that is new

    @cached_property
    def prompt_hash(self) -> str:
        return message_hash(self.prompt)

    @cached_property
    def text_hashes(self) -> list[str]:
        return [text_hash(text) for text, _ in self.completions]

    @cached_property
    def comparison_hash(self) -> str:
        """Equal to Comparison.hash_of for the stored rows."""
        return text_hash("\n".join([self.prompt_hash, *self.text_hashes]))


def read_row(record: dict[str, Any], *, source: str) -> Row:
    """What the record says. Completions come in the order of their hashes: a position must not betray the winner."""
    if record.get("fresh"):
        return replace(_fresh_row(record), metadata=_metadata(record))
    if "completions" in record:
        row = _set_row(record, source)
    elif "chosen" in record and "rejected" in record:
        row = _pair_row(record, source)
    else:
        raise BadRow('needs "chosen" and "rejected", or "prompt" and "completions", or "prompt" and "fresh": true')
    texts = [text for text, _ in row.completions]
    if not all(text.strip() for text in texts):
        raise BadRow("a completion is empty")
    if len(set(texts)) < len(texts):
        raise BadRow("two completions are the same text")
    if row.gold is not None and row.answer:
        raise BadRow("gold is what is right, and nobody's answer: leave ranking, strength and both_bad out")
    return _in_hash_order(replace(row, metadata=_metadata(record)))


def _metadata(record: dict[str, Any]) -> dict[str, Any]:
    """What is said of the prompt in short values, such as {"topic": "cooking"}, to sort by. The rest is not kept."""
    said = record.get("metadata")
    pairs = list(said.items())[:MAX_METADATA] if isinstance(said, dict) else []
    return {
        key: value
        for key, value in pairs
        if len(key) <= MAX_NAME and isinstance(value, str | int | float | bool) and len(str(value)) <= MAX_NAME
    }


def default_group(prompt: list[dict[str, str]]) -> str:
    """The hash of the first user turn: every continuation of a dialogue stays in one split."""
    root = next((turn["content"] for turn in prompt if turn["role"] == "user"), prompt[0]["content"])
    return text_hash(normalised(root))


def normalised(text: str) -> str:
    """The text without what a reader overlooks: case and white space."""
    return " ".join(text.casefold().split())


def _fresh_row(record: dict[str, Any]) -> Row:
    if record["fresh"] is not True or "prompt" not in record or {"completions", "chosen", "rejected"} & record.keys():
        raise BadRow("a fresh row is a prompt and fresh: true, without completions")
    return Row(_prompt(record["prompt"]), [], name_in(record, "group", 200), answer=None, fresh=True)


def _pair_row(record: dict[str, Any], source: str) -> Row:
    prompt, chosen, rejected = _split_pair(record)
    authors = [name_in(record, key) or f"import:{source}" for key in ("chosen_model", "rejected_model")]
    strength = pair_strength(record)
    answer = Answer(
        annotator=name_in(record, "annotator") or f"import:{source}",
        ranking=[[0], [1]],
        strength=None if strength is None else -strength,
        rationale=text_in(record, "rationale"),
    )
    return Row(prompt, list(zip((chosen, rejected), authors, strict=True)), name_in(record, "group", 200), answer)


def _split_pair(record: dict[str, Any]) -> tuple[list[dict[str, str]], str, str]:
    """The prompt and the two answers, whichever of the formats this is."""
    chosen, rejected = record["chosen"], record["rejected"]
    if isinstance(chosen, list) and isinstance(rejected, list):
        if "prompt" in record:
            return _prompt(record["prompt"]), _one_answer(chosen, "chosen"), _one_answer(rejected, "rejected")
        return _common_turns(_messages(chosen, "chosen"), _messages(rejected, "rejected"))
    if not isinstance(chosen, str) or not isinstance(rejected, str):
        raise BadRow("chosen and rejected must both be text or both be lists of messages")
    if "prompt" in record:
        return _prompt(record["prompt"]), chosen, rejected
    if chosen.startswith("\n\nHuman:") and rejected.startswith("\n\nHuman:"):
        return _common_turns(_dialogue(chosen), _dialogue(rejected))
    return _common_text(chosen, rejected)


def _prompt(value: Any) -> list[dict[str, str]]:
    if isinstance(value, str):
        turns = _dialogue(value) if value.startswith("\n\nHuman:") else [{"role": "user", "content": value}]
        if len(turns) > 1 and turns[-1] == {"role": "assistant", "content": ""}:
            turns = turns[:-1]  # the "\n\nAssistant:" that asks for the answer
    else:
        turns = _messages(value, "prompt")
    return _checked_prompt(turns)


def _checked_prompt(turns: list[dict[str, str]]) -> list[dict[str, str]]:
    if not turns or turns[-1]["role"] != "user":
        raise BadRow("the prompt must end in a user turn")
    if not turns[-1]["content"].strip():
        raise BadRow("the prompt is empty")
    return turns


def _messages(value: Any, name: str) -> list[dict[str, str]]:
    if not isinstance(value, list) or not value:
        raise BadRow(f"{name} must be text or a list of messages")
    for turn in value:
        if not isinstance(turn, dict) or turn.get("role") not in ROLES:
            raise BadRow(f"{name} has a message whose role is not system, user or assistant")
        if not isinstance(turn.get("content"), str):
            raise BadRow(f"{name} has a message whose content is not text")
    return [{"role": turn["role"], "content": turn["content"]} for turn in value]


def _one_answer(value: list, name: str) -> str:
    turns = _messages(value, name)
    if len(turns) != 1 or turns[0]["role"] != "assistant":
        raise BadRow(f"beside a prompt, {name} must be one assistant message")
    return turns[0]["content"]


def _dialogue(text: str) -> list[dict[str, str]]:
    """The turns of a "\\n\\nHuman: ... \\n\\nAssistant: ..." text."""
    parts = DIALOGUE.split(text)[1:]
    return [
        {"role": SPEAKERS[speaker], "content": said.strip()}
        for speaker, said in zip(parts[::2], parts[1::2], strict=True)
    ]


def _common_turns(chosen: list[dict], rejected: list[dict]) -> tuple[list[dict[str, str]], str, str]:
    """Two whole dialogues that differ in the last turn alone."""
    if chosen[:-1] != rejected[:-1]:
        pairs = zip(chosen, rejected, strict=False)
        turn = next((n for n, (a, b) in enumerate(pairs, 1) if a != b), min(len(chosen), len(rejected)))
        raise BadRow(f"chosen and rejected part at turn {turn}; only the last answer may differ")
    if chosen[-1]["role"] != "assistant" or rejected[-1]["role"] != "assistant":
        raise BadRow("a dialogue must end in the assistant's answer")
    return _checked_prompt(chosen[:-1]), chosen[-1]["content"], rejected[-1]["content"]


def _common_text(chosen: str, rejected: str) -> tuple[list[dict[str, str]], str, str]:
    """Two texts with a common beginning, which is the prompt; it is cut at white space, never inside a word."""
    length = next((n for n, (a, b) in enumerate(zip(chosen, rejected, strict=False)) if a != b), None)
    if length is None:
        raise BadRow("one text is the beginning of the other: add a prompt column")
    while length and not chosen[length - 1].isspace():
        length -= 1
    prompt = chosen[:length].strip()
    if not prompt:
        raise BadRow("chosen and rejected have no common beginning: add a prompt column")
    return [{"role": "user", "content": prompt}], chosen[length:], rejected[length:]


def _set_row(record: dict[str, Any], source: str) -> Row:
    completions = record["completions"]
    if not isinstance(completions, list) or len(completions) > MAX_COMPLETIONS:
        raise BadRow(f"completions must be a list of at most {MAX_COMPLETIONS} texts")
    if not all(isinstance(text, str) for text in completions):
        raise BadRow("completions must be texts")
    if "prompt" not in record:
        raise BadRow("completions need a prompt")
    if len(completions) < 2 and (said := [key for key in ANSWERS if record.get(key)]):
        raise BadRow(f"{said[0]} compares 2 completions or more, this row has {len(completions)}")
    authors = record.get("authors") or [f"import:{source}"] * len(completions)
    if not isinstance(authors, list) or len(authors) != len(completions):
        raise BadRow("authors must name one author for each completion")
    for author in authors:
        if not isinstance(author, str) or not 1 <= len(author) <= MAX_NAME:
            raise BadRow(f"an author must be a text of 1 to {MAX_NAME} characters")
    return Row(
        prompt=_prompt(record["prompt"]),
        completions=list(zip(completions, authors, strict=True)),
        group=name_in(record, "group", 200),
        answer=set_answer(record, source, len(completions)),
        overlap=_overlap(record),
        batch=name_in(record, "batch", 120),
        requires=_requires(record),
        gold=gold_in(record, len(completions)),
        explanation=text_in(record, "explanation"),
    )


def _in_hash_order(row: Row) -> Row:
    order = sorted(range(len(row.completions)), key=lambda place: text_hash(row.completions[place][0]))
    completions = [row.completions[place] for place in order]
    answer = row.answer and moved(row.answer, order)
    return replace(row, completions=completions, answer=answer, gold=moved_gold(row.gold, order))


def _overlap(record: dict[str, Any]) -> int | None:
    overlap = record.get("overlap")
    if overlap is not None and (type(overlap) is not int or not 1 <= overlap <= 100):
        raise BadRow(f"overlap {overlap!r} is not a number of people from 1 to 100")
    return overlap


def _requires(record: dict[str, Any]) -> tuple[str, ...]:
    """Tags that a labeler must have to get the comparison."""
    tags = record.get("requires") or []
    if not isinstance(tags, list) or not all(isinstance(tag, str) and 1 <= len(tag.strip()) <= 40 for tag in tags):
        raise BadRow(f"requires must be a list of tags of 1 to 40 characters, not {tags!r}")
    return tuple(dict.fromkeys(tag.strip() for tag in tags))
