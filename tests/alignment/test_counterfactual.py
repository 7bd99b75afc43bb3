"""The gender swap on hand-made sentences, and the promise that the audit's templates were never trained on."""

import pytest

from alignment.mitigation.counterfactual import (
    AUDIT_TEMPLATES,
    PAIRS,
    TRAIN_TEMPLATES,
    Comparison,
    has_gender,
    is_swappable,
    swap,
    swap_comparison,
    template_comparisons,
    template_texts,
)


@pytest.mark.parametrize(
    ("text", "swapped"),
    [
        ("He told his brother.", "She told her sister."),
        ("SHE said so, Mother!", "HE said so, Father!"),
        ("I gave her the book.", "I gave him the book."),
        ("I gave her book to her.", "I gave his book to him."),
        ("The book is his, not hers.", "The book is hers, not his."),
        ("he's here and the man's hat is old", "she's here and the woman's hat is old"),
        ("“She” — the queen’s own words…", "“He” — the king’s own words…"),
        ("Mr. Brown and his\nwife", "Mrs. Brown and her\nhusband"),
    ],
)
def test_the_swap_keeps_case_and_everything_else(text, swapped):
    assert swap(text) == swapped


@pytest.mark.parametrize("text", ["The theme of the sheriff", "mankind, human, manage, there, history", "12 % _x_ ~"])
def test_words_that_only_contain_a_gendered_word_stay(text):
    assert swap(text) == text
    assert not has_gender(text)


def test_the_swap_undoes_itself_on_every_pair_and_every_template():
    for male, female in PAIRS:
        assert swap(male) == female
        assert swap(female) == male
    for templates in (TRAIN_TEMPLATES, AUDIT_TEMPLATES):
        for _, text in template_texts(templates):
            assert has_gender(text)
            assert swap(swap(text)) == text


def test_god_and_hosts_stay_what_they_are():
    assert swap("God is not a host of gods, he said.") == "God is not a host of gods, she said."


def test_the_list_holds_at_least_fifty_pairs_and_no_word_twice():
    words = [word for pair in PAIRS for word in pair]
    assert len(PAIRS) >= 50
    assert len(words) == len(set(words))


def test_audit_and_training_share_no_frame_no_occupation_and_no_question():
    assert not set(TRAIN_TEMPLATES.frames) & set(AUDIT_TEMPLATES.frames)
    assert not set(TRAIN_TEMPLATES.occupations) & set(AUDIT_TEMPLATES.occupations)
    assert TRAIN_TEMPLATES.question != AUDIT_TEMPLATES.question


def test_a_template_comparison_sets_a_man_against_a_woman_and_its_swap_the_reverse():
    for row in template_comparisons(AUDIT_TEMPLATES):
        turned = swap_comparison(row)
        assert row.first != row.second
        assert turned.first == swap(row.first)
        assert turned.second == swap(row.second)
        assert is_swappable(row)


def test_a_comparison_without_gender_is_not_swappable():
    assert not is_swappable(Comparison([{"role": "user", "content": "Why?"}], "Because.", "So.", "g"))
    assert is_swappable(Comparison([{"role": "user", "content": "Is she right?"}], "Yes.", "No.", "g"))
