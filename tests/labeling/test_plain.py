"""The short way of plain text gives what the long way gives."""

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from labelapp.labeling.text.plain import is_plain, plain_html
from labelapp.labeling.text.render import render_with_markup

SIGNS = list("ab 1.,;:!?'\"()-+=#>/@%^{}\n\n")
PIECES = st.sampled_from(
    [*SIGNS, "word", "\n\n", "\n\n\n", "é", "漢", "مرحبا", "1.", "2)", "- ", "http://a.b/", "x = 1", "…", "—"]
)
ODD = st.sampled_from(
    [*"\\`*_[]<&~$|\t\r\x00\x1f\x7f", "\u00a0", "\u200b", "\u2028", "\ufffd", "&amp;", "![", "---", "~~"]
)


@given(st.lists(PIECES, max_size=30).map("".join))
@example("Because of A > B.\nAnd so on.\n\nThe end (for now).")
@example('He said "no"; she didn\'t.')
def test_plain_text_looks_the_same_by_both_ways(text):
    if is_plain(text):
        assert plain_html(text) == render_with_markup(text)


@given(st.text(max_size=60))
def test_so_does_any_text(text):
    if is_plain(text):
        assert plain_html(text) == render_with_markup(text)


@given(st.lists(st.one_of(PIECES, ODD), max_size=12).map("".join))
def test_so_does_text_with_odd_signs(text):
    if is_plain(text):
        assert plain_html(text) == render_with_markup(text)


@pytest.mark.parametrize(
    "text",
    ["", "*so*", "1. one", "# one", "> one", "a\n---", "a | b\n- | -", " a", "a ", "a\u00a0b", "\u202ea", "$x$", "\\"],
)
def test_what_may_be_more_goes_the_long_way(text):
    assert not is_plain(text)


def test_an_ordinary_answer_goes_the_short_way():
    assert is_plain("It's shorter - and, I think, better: 3 of 4 agree (so far).\n\nSee page 12/13, \"he\" said!")
