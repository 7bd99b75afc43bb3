import pytest

from labelapp.labeling.answers import Answer, as_stored, body_hash, check_answer, ranking_of
from labelapp.labeling.protocol import Protocol
from labelapp.labeling.refusals import NotAnAnswer

PROTOCOL = Protocol()


def test_the_left_response_is_position_0_where_it_is_shown_first():
    assert as_stored(Answer(strength=-2), [0, 1]) == Answer(strength=-2, ranking=((0,), (1,)))


def test_the_left_response_is_position_1_where_the_order_is_turned():
    assert as_stored(Answer(strength=-2), [1, 0]) == Answer(strength=2, ranking=((1,), (0,)))


def test_a_tie_is_one_tier_whatever_the_order():
    assert as_stored(Answer(strength=0), [1, 0]) == Answer(strength=0, ranking=((0, 1),))


def test_both_bad_ranks_nothing():
    assert as_stored(Answer(both_bad=True), [1, 0]) == Answer(both_bad=True)


def test_a_ranking_with_ties_is_turned_into_positions():
    # Shown: positions 2, 0, 3, 1. Best the second place (0), then first and last (2 and 1), then the third (3).
    assert as_stored(Answer(ranking=((1,), (0, 3), (2,))), [2, 0, 3, 1]).ranking == ((0,), (1, 2), (3,))


def test_equal_ranks_share_a_tier():
    assert ranking_of([2, 1, 2, 5]) == ((1,), (0, 2), (3,))


@pytest.mark.parametrize(
    ("answer", "size", "says"),
    [
        (Answer(), 2, "says 0"),
        (Answer(strength=1, both_bad=True), 2, "says 2"),
        (Answer(strength=4), 2, "between -3 and 3"),
        (Answer(strength=1), 4, "give each one a rank"),
        (Answer(ranking=((0,), (0,))), 2, "name each of the 2"),
        (Answer(ranking=((0, 1), ())), 2, "name each of the 2"),
        (Answer(ranking=((0,), (1,))), 4, "name each of the 4"),
    ],
)
def test_what_the_protocol_does_not_know_is_refused_with_a_remedy(answer, size, says):
    with pytest.raises(NotAnAnswer, match=says):
        check_answer(answer, size=size, protocol=PROTOCOL)


@pytest.mark.parametrize("answer", [Answer(strength=0), Answer(ranking=((0, 1),)), Answer(both_bad=True)])
def test_a_protocol_may_know_neither_tie_nor_both_bad(answer):
    check_answer(answer, size=2, protocol=PROTOCOL)
    with pytest.raises(NotAnAnswer, match=r"choose the better|own rank"):
        check_answer(answer, size=2, protocol=Protocol(tie=False, both_bad=False))


def test_the_hash_of_a_body_changes_with_everything_that_is_said():
    said = {"slot": 1, "labeler": 2}
    hashes = {
        body_hash(Answer(strength=1), **said),
        body_hash(Answer(strength=2), **said),
        body_hash(Answer(both_bad=True), **said),
        body_hash(Answer(strength=1, rationale="clearer"), **said),
        body_hash(Answer(strength=1), **said | {"slot": 9}),
        body_hash(Answer(strength=1), **said | {"labeler": 9}),
    }
    assert len(hashes) == 6
    assert body_hash(Answer(strength=1), **said) in hashes
