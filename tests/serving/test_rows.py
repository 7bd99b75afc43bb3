"""What of a growing answer may be shown, and when it ends."""

from dataclasses import asdict

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from labelapp.serving.protocol import Sampling
from labelapp.serving.rows import Row, TextFlow


def bytes_as_text(ids: list[int]) -> str:
    """A byte-level tokenizer in its simplest form: an id is a byte."""
    return bytes(ids).decode("utf-8", errors="replace")


def shown(text: str, *stops: str) -> tuple[list[str], TextFlow]:
    """The pieces that were sent while the text came byte by byte."""
    flow, ids, pieces = TextFlow(bytes_as_text, stops), [], []
    data = text.encode()
    for number, byte in enumerate(data, start=1):
        ids.append(byte)
        pieces.append(flow.advance(ids, final=number == len(data)))
        if flow.stopped:
            break
    return [piece for piece in pieces if piece], flow


def test_a_character_is_sent_whole_or_not_at_all():
    pieces, _ = shown("a🙂ü")

    assert pieces == ["a", "🙂", "ü"]


def test_half_a_character_at_the_end_is_dropped():
    flow = TextFlow(bytes_as_text, ())

    assert flow.advance(list("é".encode())[:1], final=True) == ""


def test_bytes_that_are_no_text_do_not_hold_back_what_follows():
    flow = TextFlow(bytes_as_text, ())

    assert flow.advance([0xFF]) == ""
    assert flow.advance([0xFF, ord("a")]) == "\ufffda"


def test_a_stop_string_that_comes_in_pieces_is_not_shown():
    pieces, flow = shown("Yes.\n\nNo.", "\n\n")

    assert "".join(pieces) == "Yes." and flow.stopped


def test_what_only_began_like_a_stop_string_is_shown_later():
    pieces, flow = shown("a\nb", "\n\n")

    assert pieces == ["a", "\nb"] and not flow.stopped


def test_the_earliest_stop_string_counts():
    pieces, _ = shown("one two three", "three", "two")

    assert "".join(pieces) == "one "


@settings(max_examples=200, deadline=None)
@given(st.text("ab\nü🙂", max_size=30), st.lists(st.text("ab\nü🙂", min_size=1, max_size=4), max_size=4))
def test_pieces_join_to_the_text_before_the_first_stop_that_completes(text, stops):
    pieces, flow = shown(text, *stops)

    met = [stop for stop in stops if stop in text]
    completed = min((text.find(stop) + len(stop) for stop in met), default=0)
    end = min((text.find(stop) for stop in met if text.find(stop) + len(stop) == completed), default=len(text))
    assert "".join(pieces) == text[:end]
    assert flow.stopped == bool(met)


def row(max_tokens: int, events: list, **sampling) -> Row:
    facts = asdict(Sampling(**sampling))
    return Row(0, [1], facts, max_tokens, None, events.append, TextFlow(bytes_as_text, facts["stop"]))


@pytest.mark.parametrize(("text", "end", "reason"), [("ab", True, "stop"), ("abc", False, "length")])
def test_an_answer_ends_at_its_end_token_or_its_limit(text, end, reason):
    events = []
    made = row(3, events)
    for byte in text.encode():
        made.take(byte, is_end=False)
    if end:
        made.take(0, is_end=True)

    assert events[-1] == {"row": 0, "finish": reason, "tokens": 3} and made.gone
