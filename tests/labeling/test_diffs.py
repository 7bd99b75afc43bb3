"""Two versions of a text, word by word."""

import pytest
from django.template.loader import render_to_string
from hypothesis import given
from hypothesis import strategies as st

from labelapp.labeling.text.diffs import changes_only, word_diff

texts = st.lists(st.sampled_from(["be", " ", "\n", "fair", ".", "回", "答", "\u202e", "é"]), max_size=30).map("".join)


@given(texts, texts)
def test_a_diff_holds_both_texts(old, new):
    parts = word_diff(old, new)
    assert "".join(text for kind, text in parts if kind != "ins") == old
    assert "".join(text for kind, text in parts if kind != "del") == new
    assert all(text for _, text in parts)


@pytest.mark.parametrize(
    ("old", "new", "parts"),
    [
        ("Be fair.", "Be kind.", [("same", "Be "), ("del", "fair"), ("ins", "kind"), ("same", ".")]),
        ("one two six", "three four six", [("del", "one two"), ("ins", "three four"), ("same", " six")]),
        ("a fair\nb", "a kind\nb", [("same", "a "), ("del", "fair"), ("ins", "kind"), ("same", "\nb")]),
        ("回答更好", "回答很好", [("same", "回答"), ("del", "更"), ("ins", "很"), ("same", "好")]),
        ("", "New.", [("ins", "New.")]),
        ("Same.", "Same.", [("same", "Same.")]),
    ],
)
def test_words_are_compared_and_neighbouring_changes_are_one(old, new, parts):
    assert word_diff(old, new) == parts


def test_long_stretches_that_stayed_are_left_out():
    stayed = " ".join(f"w{number}" for number in range(100))
    short = changes_only(word_diff(f"{stayed} old {stayed}", f"{stayed} new {stayed}"), words=2)
    assert [kind for kind, _ in short] == ["gap", "same", "del", "ins", "same", "gap"]
    assert short[1][1].split() == ["w98", "w99"]
    assert changes_only(word_diff("a b", "a b")) == []


def test_the_page_names_each_change_in_words_and_escapes_it():
    html = render_to_string("labeling/_diff.html", {"diff": word_diff("Be fair", "Be <script>")})
    assert "removed:" in html and "added:" in html
    assert "<script>" not in html and "&lt;" in html
