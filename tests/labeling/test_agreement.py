from types import SimpleNamespace

import pytest

from labelapp.labeling.quality.agreement import Share, check_gold, differ, disagree, is_right
from labelapp.labeling.refusals import BadGold

A, B, TIE = [[0], [1]], [[1], [0]], [[0, 1]]


def said(ranking=None, **more):
    return SimpleNamespace(ranking=ranking, both_bad=ranking is None and more.get("both_bad", False))


BAD = said(both_bad=True)


@pytest.mark.parametrize(
    ("one", "other", "different"),
    [
        (said(A), said(A), False),
        (said(A), said(B), True),
        (said(A), said(TIE), True),
        (said(TIE), said(TIE), False),
        (BAD, BAD, False),
        (BAD, said(TIE), True),
        (BAD, said(A), True),
        (said([[0], [1], [2]]), said([[0], [1], [2]]), False),
        (said([[0], [1], [2]]), said([[0], [2], [1]]), True),
        (said([[0], [1], [2]]), said([[0], [1, 2]]), False),  # a tie of some contradicts no order
        (said([[0, 1, 2]]), said([[2], [1], [0]]), False),
        (said([[0], [1], [2]]), said([[0], [2]]), False),  # 1 could not be ranked
        (said([[0], [1], [2]]), said([[2], [0]]), True),
    ],
)
def test_answers_differ_in_the_winner_or_in_an_inverted_pair(one, other, different):
    assert differ(one, other) is different
    assert differ(other, one) is different


def test_ratings_are_no_votes_and_one_vote_agrees_with_itself():
    assert not disagree([])
    assert not disagree([said(A), said()])
    assert disagree([said(A), said(), said(A), said(B)])


@pytest.mark.parametrize(
    ("answer", "gold", "right"),
    [
        (said(A), A, True),
        (said(B), A, False),
        (said(TIE), A, False),
        (said(A), TIE, False),
        (said(TIE), TIE, True),
        (BAD, A, False),
        (BAD, {"both_bad": True}, True),
        (said(A), {"both_bad": True}, False),
        (said([[2], [0], [1]]), [[2], [1], [0]], True),  # the winner counts, not the order below
        (said([[2, 1], [0]]), [[2], [1], [0]], False),
        (said([[1, 2], [0]]), [[2, 1], [0]], True),
        (said(), A, False),
    ],
)
def test_an_answer_is_right_with_the_winners_of_the_known_one(answer, gold, right):
    assert is_right(answer, gold) is right


@pytest.mark.parametrize("gold", [A, TIE, {"both_bad": True}])
def test_a_known_answer_is_a_ranking_or_both_bad(gold):
    check_gold(gold, 2)


@pytest.mark.parametrize("gold", [None, [], [[0]], [[0], [2]], [[0], [1], []], {"both_bad": False}, "A", [[True], [0]]])
def test_what_nobody_could_answer_is_no_known_answer(gold):
    with pytest.raises(BadGold, match="tiers of the positions 0 to 1, or both_bad: true"):
        check_gold(gold, 2)


def test_a_share_of_nothing_is_no_share():
    assert Share(0, 0).value is None
    assert Share(3, 4).value == 0.75
