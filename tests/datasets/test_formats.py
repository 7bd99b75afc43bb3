"""What is taken from a row, and what is refused."""

import pytest

from labelapp.datasets.formats import BadRow, default_group, read_row
from labelapp.datasets.strict_json import BadJson, decode
from labelapp.models import text_hash

QUESTION = {"role": "user", "content": "Which is better?"}
ASKED = "\n\nHuman: Which is better?\n\nAssistant:"
HH = "\n\nHuman: Hello\n\nAssistant: Hi!\n\nHuman: Which is better?\n\nAssistant: "


def said(text: str) -> dict:
    return {"role": "assistant", "content": text}


def winner(row) -> str:
    [[best], _] = row.answer.ranking
    return row.completions[best][0]


@pytest.mark.parametrize(
    "record",
    [
        {"prompt": "Which is better?", "chosen": "This.", "rejected": "That."},
        {"prompt": [QUESTION], "chosen": [said("This.")], "rejected": [said("That.")]},
        {"chosen": [QUESTION, said("This.")], "rejected": [QUESTION, said("That.")]},
        {"chosen": "Which is better? This.", "rejected": "Which is better? That."},
        {"chosen": f"{ASKED} This.", "rejected": f"{ASKED} That."},
        {"prompt": ASKED, "chosen": "This.", "rejected": "That."},
        {"prompt": "Which is better?", "completions": ["That.", "This."], "ranking": [[1], [0]]},
        {"prompt": "Which is better?", "completions": ["That.", "This."], "strength": 2},
    ],
)
def test_every_format_says_the_same(record):
    row = read_row(record, source="s")
    assert row.prompt == [QUESTION]
    assert winner(row) == "This."
    assert {text for text, _ in row.completions} == {"This.", "That."}


def test_the_shared_turns_of_a_whole_dialogue_are_the_prompt():
    row = read_row({"chosen": HH + "A dog.", "rejected": HH + "A cat."}, source="hh")
    assert [turn["role"] for turn in row.prompt] == ["user", "assistant", "user"]
    assert row.group is None and default_group(row.prompt) == text_hash("hello")
    assert winner(row) == "A dog."


def test_a_position_does_not_betray_the_winner():
    one = read_row({"prompt": "p", "chosen": "This.", "rejected": "That."}, source="s")
    other = read_row({"prompt": "p", "chosen": "That.", "rejected": "This."}, source="s")
    assert one.completions == other.completions
    assert one.comparison_hash == other.comparison_hash
    assert one.answer.ranking == [[1], [0]] or other.answer.ranking == [[1], [0]]


def test_a_strength_follows_its_completion_into_hash_order():
    for completions in (["This.", "That."], ["That.", "This."]):
        strength = -2 if completions[0] == "This." else 2
        row = read_row({"prompt": "p", "completions": completions, "strength": strength}, source="s")
        assert winner(row) == "This." and abs(row.answer.strength) == 2
        assert (row.answer.strength < 0) == (row.completions[0][0] == "This.")


@pytest.mark.parametrize(("margin", "strength"), [(1.0, 3), (0.67, 2), (0.34, 1), (0.05, 1), (0.0, None), (None, None)])
def test_a_margin_is_a_share_of_the_strongest_step(margin, strength):
    row = read_row({"prompt": "p", "chosen": "This.", "rejected": "That.", "margin": margin}, source="s")
    assert abs(row.answer.strength or 0) == (strength or 0)
    assert (row.answer.strength is None) == (strength is None)


def test_a_row_without_an_answer_is_an_open_question():
    row = read_row({"prompt": "p", "completions": ["a", "b", "c"], "overlap": 2}, source="s")
    assert row.answer is None and row.overlap == 2 and len(row.completions) == 3


@pytest.mark.parametrize(
    ("record", "reason"),
    [
        ({"text": "?"}, 'needs "chosen" and "rejected"'),
        ({"prompt": "p", "chosen": "same", "rejected": "same"}, "the same text"),
        ({"prompt": "p", "chosen": "x", "rejected": " "}, "is empty"),
        ({"prompt": " ", "chosen": "x", "rejected": "y"}, "prompt is empty"),
        ({"prompt": 7, "chosen": "x", "rejected": "y"}, "prompt must be text or a list"),
        ({"chosen": "one", "rejected": "two"}, "no common beginning"),
        ({"chosen": "one two", "rejected": "one two three"}, "add a prompt column"),
        ({"chosen": HH + "A dog.", "rejected": HH.replace("Hello", "Hey") + "A cat."}, "part at turn 1"),
        ({"chosen": HH + "x\n\nHuman: y", "rejected": HH + "x\n\nHuman: z"}, "end in the assistant's answer"),
        ({"chosen": [QUESTION, said("x")], "rejected": "y"}, "both be text or both"),
        ({"prompt": [said("x")], "chosen": [said("x")], "rejected": [said("y")]}, "end in a user turn"),
        ({"prompt": "p", "chosen": [said("x"), QUESTION], "rejected": [said("y")]}, "one assistant message"),
        ({"prompt": [{"role": "tool", "content": "x"}], "chosen": [said("x")], "rejected": [said("y")]}, "whose role"),
        ({"prompt": [{"role": "user", "content": [1]}], "chosen": [said("x")], "rejected": [said("y")]}, "not text"),
        ({"prompt": "p", "chosen": "x", "rejected": "y", "margin": 3}, "not between 0 and 1"),
        ({"prompt": "p", "chosen": "x", "rejected": "y", "strength": True}, "not 1, 2 or 3"),
        ({"prompt": "p", "chosen": "x", "rejected": "y", "annotator": "a" * 101}, "annotator must be"),
        ({"prompt": "p", "completions": list("abcdefghij")}, "at most 9"),
        ({"prompt": "p", "completions": ["x"], "ranking": [[0]]}, "compares 2 completions or more"),
        ({"prompt": "p", "completions": [], "rewrite": "An answer."}, "this row has 0"),
        ({"prompt": "p", "completions": ["x", "y"], "ranking": [[0], [0]]}, "ranking must name"),
        ({"prompt": "p", "completions": ["x", "y"], "ranking": [[0, 1], []]}, "ranking must name"),
        ({"prompt": "p", "completions": ["x", "y"], "ranking": [[True], [0]]}, "ranking must name"),
        ({"prompt": "p", "completions": ["x", "y"], "ranking": [[0], [1]], "strength": 2}, "different things"),
        ({"prompt": "p", "completions": ["x", "y"], "ranking": [[0], [1]], "both_bad": True}, "alone"),
        ({"prompt": "p", "completions": ["x", "y"], "overlap": 0}, "overlap"),
        ({"prompt": "p", "completions": ["x", "y"], "strength": 4}, "not a step from -3 to 3"),
        ({"prompt": "p", "completions": ["x", "y"], "strength": 4, "max_strength": 5}, "max_strength 5"),
        ({"prompt": "p", "completions": ["x", "y"], "ranking": [[0]], "unrankable": [0]}, "ranking must name"),
        ({"prompt": "p", "completions": ["x", "y"], "ratings": {"good": [1, 2]}}, "ratings alone"),
        ({"prompt": "p", "completions": ["x", "y"], "batch": " "}, "batch must be a text of 1 to 120"),
        ({"prompt": "p", "completions": ["x", "y"], "requires": "de"}, "requires must be a list of tags"),
        ({"prompt": "p", "completions": ["x", "y"], "gold": [[0]]}, "gold: .* positions 0 to 1"),
        ({"prompt": "p", "completions": ["x", "y"], "gold": [[0], [1]], "strength": 1}, "nobody's answer"),
    ],
)
def test_a_row_that_cannot_be_meant_is_refused_with_its_reason(record, reason):
    with pytest.raises(BadRow, match=reason):
        read_row(record, source="s")


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (b'{"a": "x\\u0000"}', "NUL"),
        (b'{"x\\u0000": 1}', "NUL"),
        (b'{"a": "\\ud800"}', "surrogate"),
        (b'{"a": NaN}', "NaN is not JSON"),
        (b'{"a": -Infinity}', "Infinity is not JSON"),
        (b'{"a": 1e999}', "too large"),
        (b'{"a": ' + b"9" * 5000 + b"}", "64 bits"),
        (b'{"a": 9223372036854775808}', "64 bits"),
        (b'{"a": ' + b"[" * 33 + b"]" * 33 + b"}", "deeper than 32"),
        (b'{"a": ' + b"[" * 100_000, "deeper than 32"),
        (b'{"a": "\xff"}', "not UTF-8: byte 0xff at position 7"),
        (b'{"a": 1, "b": 2, "a": 3}', "'a' appears twice"),
        (b'{"b": {"a": 1, "a": 3}}', "'a' appears twice"),
        (b"[1]", "not a JSON object"),
        (b'{"a": 1', "not JSON"),
    ],
)
def test_json_that_something_downstream_would_choke_on_is_refused(line, reason):
    with pytest.raises(BadJson, match=reason):
        decode(line)


def test_thirty_two_levels_and_pairs_of_surrogates_are_fine():
    assert decode(b'{"a": ' + b"[" * 31 + b"]" * 31 + b"}")
    assert decode(b'{"a": "\\ud83d\\ude00"}') == {"a": "\U0001f600"}


def test_the_value_that_cannot_be_taken_is_named_by_its_path():
    with pytest.raises(BadJson) as refusal:
        decode(b'{"messages": [{"role": "user"}, {"content": {"deep": NaN}}]}')
    assert refusal.value.path == "messages[1].content.deep"


def test_more_values_than_allowed_are_refused():
    assert decode(b'{"a": [1, 2, 3]}', most=6)
    with pytest.raises(BadJson, match="more than 5 values"):
        decode(b'{"a": [1, 2, 3]}', most=5)


def test_gold_and_what_could_not_be_ranked_follow_their_completions_into_hash_order():
    texts = ["one", "two", "three"]
    for order in ([0, 1, 2], [2, 0, 1], [1, 2, 0]):
        completions = [texts[n] for n in order]
        at = {text: place for place, text in enumerate(completions)}
        record = {"prompt": "p", "completions": completions}
        gold = read_row(record | {"gold": [[at["two"]], [at["one"], at["three"]]]}, source="s")
        assert gold.completions[gold.gold[0][0]][0] == "two" and gold.answer is None
        ranked = {"ranking": [[at["three"]], [at["one"]]], "unrankable": [at["two"]]}
        row = read_row(record | ranked, source="s")
        assert row.completions[row.answer.unrankable[0]][0] == "two"
        assert row.completions[row.answer.ranking[0][0]][0] == "three"
    assert read_row({"prompt": "p", "completions": texts, "gold": {"both_bad": True}}, source="s").gold == {
        "both_bad": True
    }
