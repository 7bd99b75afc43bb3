"""What a row of a preference file says. Pure functions; every refusal is a BadRow with its reason.

Taken are TRL's preference format (explicit and implicit prompt, plain text and conversational), the whole dialogues
of HH-RLHF, rows of completions: our own judgments.jsonl, or open questions where no answer is given; and fresh prompts.
"""

import re
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from labelapp.models import message_hash, text_hash

ROLES = {"system", "user", "assistant"}
DIALOGUE = re.compile(r"\n\n(Human|Assistant):")
SPEAKERS = {"Human": "user", "Assistant": "assistant"}
MAX_COMPLETIONS = 9
MAX_NAME = 100


class BadRow(ValueError):
    """A row cannot be taken. The message is a reason for a person, without the row's number."""


@dataclass(frozen=True)
class Answer:
    """One annotator's answer; positions refer to the row's completions. See Judgment for the meaning of the fields."""

    annotator: str
    ranking: list[list[int]] | None
    strength: int | None = None
    both_bad: bool = False
    rationale: str = ""


@dataclass(frozen=True)
class Row:
    """A prompt, its completions as (text, author), and an answer, or none where people here shall answer."""

    prompt: list[dict[str, str]]
    completions: list[tuple[str, str]]
    group: str | None
    answer: Answer | None
    overlap: int | None = None
    fresh: bool = False  # no completions: the policy is to answer

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
        return _fresh_row(record)
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
    return _in_hash_order(row)


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
    return Row(_prompt(record["prompt"]), [], _name(record, "group", 200), answer=None, fresh=True)


def _pair_row(record: dict[str, Any], source: str) -> Row:
    prompt, chosen, rejected = _split_pair(record)
    authors = [_name(record, key) or f"import:{source}" for key in ("chosen_model", "rejected_model")]
    strength = _pair_strength(record)
    answer = Answer(
        annotator=_name(record, "annotator") or f"import:{source}",
        ranking=[[0], [1]],
        strength=None if strength is None else -strength,
        rationale=_text(record, "rationale"),
    )
    return Row(prompt, list(zip((chosen, rejected), authors, strict=True)), _name(record, "group", 200), answer)


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


def _pair_strength(record: dict[str, Any]) -> int | None:
    """How clearly the chosen answer wins, 1 to 3, from `strength` or from TRL's `margin`, a share of the strongest."""
    strength, margin = record.get("strength"), record.get("margin")
    if strength is not None:
        if type(strength) is not int or not 1 <= strength <= 3:
            raise BadRow(f"strength {strength!r} is not 1, 2 or 3")
        return strength
    if margin is None:
        return None
    if isinstance(margin, bool) or not isinstance(margin, (int, float)) or not 0 <= margin <= 1:
        raise BadRow(f"margin {margin!r} is not between 0 and 1; for steps use strength 1, 2 or 3")
    return max(1, round(margin * 3)) if margin > 0 else None


def _set_row(record: dict[str, Any], source: str) -> Row:
    completions = record["completions"]
    if not isinstance(completions, list) or not 2 <= len(completions) <= MAX_COMPLETIONS:
        raise BadRow(f"completions must be a list of 2 to {MAX_COMPLETIONS} texts")
    if not all(isinstance(text, str) for text in completions):
        raise BadRow("completions must be texts")
    if "prompt" not in record:
        raise BadRow("completions need a prompt")
    authors = record.get("authors") or [f"import:{source}"] * len(completions)
    if not isinstance(authors, list) or len(authors) != len(completions):
        raise BadRow("authors must name one author for each completion")
    for author in authors:
        if not isinstance(author, str) or not 1 <= len(author) <= MAX_NAME:
            raise BadRow(f"an author must be a text of 1 to {MAX_NAME} characters")
    return Row(
        prompt=_prompt(record["prompt"]),
        completions=list(zip(completions, authors, strict=True)),
        group=_name(record, "group", 200),
        answer=_set_answer(record, source, len(completions)),
        overlap=_overlap(record),
    )


def _set_answer(record: dict[str, Any], source: str, size: int) -> Answer | None:
    ranking, strength, both_bad = (record.get(key) for key in ("ranking", "strength", "both_bad"))
    if ranking is None and strength is None and not both_bad:
        return None
    annotator = _name(record, "annotator") or f"import:{source}"
    rationale = _text(record, "rationale")
    if both_bad:
        if both_bad is not True or ranking is not None or strength is not None:
            raise BadRow("both_bad must be true and alone, without ranking and strength")
        return Answer(annotator, None, both_bad=True, rationale=rationale)
    if strength is not None and (type(strength) is not int or not -3 <= strength <= 3 or size != 2):
        raise BadRow(f"strength {strength!r} is not a step from -3 to 3 between two completions")
    if ranking is None:
        ranking = ranking_of(strength)
    _check_ranking(ranking, size)
    if strength is not None and ranking_of(strength) != [sorted(tier) for tier in ranking]:
        raise BadRow(f"strength {strength} and ranking {ranking} say different things")
    return Answer(annotator, ranking, strength, rationale=rationale)


def ranking_of(strength: int) -> list[list[int]]:
    """The order that a pair's strength means: negative favours position 0."""
    return [[0, 1]] if strength == 0 else [[0], [1]] if strength < 0 else [[1], [0]]


def _check_ranking(ranking: Any, size: int) -> None:
    tiers = ranking if isinstance(ranking, list) and all(isinstance(tier, list) for tier in ranking) else [[None]]
    found = [position for tier in tiers for position in tier]
    if any(type(position) is not int for position in found) or sorted(found) != list(range(size)) or [] in tiers:
        raise BadRow(f"ranking must name each of the positions 0 to {size - 1} once, in tiers, best first")


def _in_hash_order(row: Row) -> Row:
    order = sorted(range(len(row.completions)), key=lambda place: text_hash(row.completions[place][0]))
    completions = [row.completions[place] for place in order]
    return Row(row.prompt, completions, row.group, row.answer and _moved(row.answer, order), row.overlap)


def _moved(answer: Answer, order: list[int]) -> Answer:
    """The same answer after completion order[n] has moved to position n."""
    place = {old: new for new, old in enumerate(order)}
    ranking = answer.ranking and [sorted(place[old] for old in tier) for tier in answer.ranking]
    flipped = answer.strength is not None and order == [1, 0]
    strength = -answer.strength if flipped else answer.strength
    return Answer(answer.annotator, ranking, strength, answer.both_bad, answer.rationale)


def _name(record: dict[str, Any], key: str, longest: int = MAX_NAME) -> str | None:
    value = record.get(key)
    if value is None:
        return None
    if not isinstance(value, str) or not value.strip() or len(value) > longest:
        raise BadRow(f"{key} must be a text of 1 to {longest} characters")
    return value


def _text(record: dict[str, Any], key: str) -> str:
    value = record.get(key) or ""
    if not isinstance(value, str):
        raise BadRow(f"{key} must be a text")
    return value


def _overlap(record: dict[str, Any]) -> int | None:
    overlap = record.get("overlap")
    if overlap is not None and (type(overlap) is not int or not 1 <= overlap <= 100):
        raise BadRow(f"overlap {overlap!r} is not a number of people from 1 to 100")
    return overlap
