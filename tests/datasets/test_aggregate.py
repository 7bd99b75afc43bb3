"""The rule that turns answers into pairs, and the figures about labels, against values computed by hand."""

import random

import pytest

from labelapp.datasets.aggregate import Vote, decide, decided_pairs, latest_votes
from labelapp.datasets.statistics import Agreement, LabelStatistics, wilson

ANSWERS = {
    "a": ([[0], [1]], None, False),
    "b": ([[1], [0]], None, False),
    "e": ([[0, 1]], 0, False),
    "x": (None, None, True),
}


def votes(letters: str) -> list[Vote]:
    return [Vote(f"p{n}", *ANSWERS[letter]) for n, letter in enumerate(letters)]


@pytest.mark.parametrize(
    ("letters", "winner"),
    [("a", 0), ("b", 1), ("aab", 0), ("abbe", 1), ("aabbb", 1), ("aaexx", None), ("aaeb", 0)]
    + [("e", None), ("x", None), ("ab", None), ("ae", None), ("abee", None), ("aabb", None), ("axx", None)],
)
def test_the_most_frequent_answer_decides(letters, winner):
    pair = decide(votes(letters), 0, 1)
    assert (pair and pair.chosen) == winner
    if pair:
        assert pair.votes_chosen == letters.count("ab"[winner]) and pair.votes_tie == letters.count("e")


def test_the_margin_is_the_mean_strength_of_the_winners_votes():
    strengths = [3, 1, None, -3]
    for_second, for_first = [[1], [0]], [[0], [1]]
    said = [Vote(str(n), for_first if s == -3 else for_second, s) for n, s in enumerate(strengths)]
    pair = decide(said, 0, 1)
    assert (pair.chosen, pair.votes_chosen, pair.votes_rejected) == (1, 3, 1)
    assert pair.margin == pytest.approx(2 / 3, abs=1e-6)
    assert decide(votes("aab"), 0, 1).margin == 0.0


def test_a_ranking_of_four_gives_every_decided_pair():
    ranking = Vote("p", [[2], [0, 3], [1]], None)
    pairs, undecided = decided_pairs([ranking], 4)
    assert {(pair.chosen, pair.rejected) for pair in pairs} == {(2, 0), (2, 3), (2, 1), (0, 1), (3, 1)}
    assert undecided == 1


def test_exchanging_the_positions_exchanges_the_pair():
    draw = random.Random(7)
    for _ in range(200):
        letters = "".join(draw.choices("abex", k=draw.randint(1, 6)))
        one, other = decide(votes(letters), 0, 1), decide(votes(letters.translate(str.maketrans("ab", "ba"))), 0, 1)
        assert (one is None) == (other is None)
        if one:
            assert (one.chosen, one.rejected) == (other.rejected, other.chosen)
            assert (one.votes_chosen, one.votes_rejected) == (other.votes_chosen, other.votes_rejected)


def test_a_surplus_answer_of_the_same_person_does_not_count_twice():
    first, second = Vote("p", [[0], [1]], -1), Vote("p", [[1], [0]], 1)
    assert latest_votes([first, second]) == [second]


def test_wilson_against_the_published_example():
    # 7 of 10: centre and half width by hand give [0.3968, 0.8922]
    assert wilson(7, 10) == (pytest.approx(0.39678, abs=1e-4), pytest.approx(0.89221, abs=1e-4))
    assert wilson(0, 0) == (0.0, 1.0)
    assert wilson(0, 20)[0] == 0.0 and wilson(20, 20)[1] == 1.0


def test_alpha_against_values_computed_by_hand():
    # Units aa, ab, bb, bb: coincidences aa 2, bb 4, ab 2; n 8, n_a 3, n_b 5; Do 2/8, De 30/56; alpha 1 - 7/15.
    agreement = Agreement()
    for unit in ({"a": 2}, {"a": 1, "b": 1}, {"b": 2}, {"b": 2}, {"a": 1}):
        agreement.add(unit)
    assert agreement.metric()["value"] == pytest.approx(1 - 7 / 15, abs=1e-6)
    assert agreement.metric()["n"] == 8
    assert Agreement().metric()["value"] is None


def test_position_is_counted_only_where_it_is_known():
    counted = LabelStatistics()
    counted.add_judgment("first", [0, 1])
    counted.add_judgment("second", [0, 1])
    counted.add_judgment("second", [1, 0])
    counted.add_judgment("tie", [0, 1])
    counted.add_judgment("first", [])
    by_key = {metric["key"]: metric for metric in counted.metrics()}
    assert (by_key["first_shown_wins"]["value"], by_key["first_shown_wins"]["n"]) == (pytest.approx(2 / 3, abs=1e-6), 3)
    assert by_key["tie_rate"]["value"] == 0.2
    assert by_key["longer_wins"]["value"] is None
