"""The proof's gold preference: known scores, and labels that are wrong exactly as often as asked."""

import numpy as np
import pytest

from benchmarks._gold import Sample, gold_score, label, repetition, shuffle_labels


def test_gold_rewards_reasons_and_punishes_repetition_and_short_answers():
    text = "It rains because the sky is heavy and the air is cold today"  # 13 words
    assert gold_score(Sample(text)) == pytest.approx(10 / 13)
    assert gold_score(Sample("because")) == pytest.approx(10 / 12)
    assert gold_score(Sample("")) == -2
    assert gold_score(Sample("so so so so")) == pytest.approx(40 / 12 - 4 / 2)
    assert gold_score(Sample("if so then but when can will must may")) == 2
    assert repetition(["a", "b", "c", "a", "b", "c"]) == pytest.approx(1 / 4)


def comparisons(n: int):
    texts = ["because " * (i % 3) + "word one two three" for i in range(n)]
    return [("p", Sample(text), Sample("plain words")) for text in texts]


def test_a_fifth_of_the_labels_is_wrong_and_equal_pairs_are_left_out():
    labeled = label(comparisons(3000), noise=0.2, generator=np.random.default_rng(0))
    assert len(labeled) == 2000
    assert np.mean([row.clean for row in labeled]) == pytest.approx(0.8, abs=0.03)
    for row in labeled:
        assert (gold_score(row.chosen) > gold_score(row.rejected)) == row.clean


def test_shuffled_labels_keep_the_pairs_and_lose_the_preference():
    labeled = label(comparisons(3000), noise=0.0, generator=np.random.default_rng(0))
    shuffled = shuffle_labels(labeled, np.random.default_rng(1))
    assert [{r.chosen, r.rejected} for r in shuffled] == [{r.chosen, r.rejected} for r in labeled]
    assert np.mean([row.clean for row in shuffled]) == pytest.approx(0.5, abs=0.04)
