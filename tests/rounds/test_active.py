"""What is picked by what, and that its odds are those that were written down."""

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from labelapp.rounds.active import (
    ACTIVE,
    RANDOM,
    Answer,
    Candidate,
    closeness,
    disagreement,
    drift,
    inclusion,
    length_doubt,
    select,
    systematic,
)


def candidate(first=(0.0,), second=(0.0,), words=(5, 5), drifts=(None, None)) -> Candidate:
    return Candidate(*(Answer(s, w, d) for s, w, d in zip((first, second), words, drifts, strict=True)))


def test_members_that_contradict_each_other_disagree_most():
    assert disagreement(candidate((50.0, -50.0), (0.0, 0.0))) == pytest.approx(0.5)
    assert disagreement(candidate((1.0, 1.0), (0.0, 0.0))) == disagreement(candidate((9.0,), (0.0,))) == 0
    # chances 0.5 and 0.7311: their standard deviation is half of the gap
    assert disagreement(candidate((0.0, 1.0), (0.0, 0.0))) == pytest.approx(0.11553, abs=1e-5)


def test_a_members_own_zero_does_not_count():
    assert disagreement(candidate((3.0, 103.0), (2.0, 102.0))) == pytest.approx(0)


def test_the_smaller_the_margin_the_closer():
    assert closeness(candidate((2.0, 0.0), (0.0, 2.0))) == 0
    assert closeness(candidate((2.0,), (0.5,))) == -1.5


def test_drift_counts_whichever_way_and_length_doubt_where_the_longer_is_preferred():
    assert drift(candidate(drifts=(-0.4, 0.1))) == 0.4 and drift(candidate()) == 0
    assert length_doubt(candidate((2.0,), (0.0,), words=(9, 3))) == 2.0
    assert length_doubt(candidate((2.0,), (0.0,), words=(3, 9))) == -2.0
    assert length_doubt(candidate((2.0,), (0.0,), words=(3, 3))) == 0


@settings(deadline=None, max_examples=60)
@given(st.lists(st.floats(-5, 5), min_size=1, max_size=40), st.data())
def test_the_odds_add_up_and_nobody_is_left_without(values, data):
    count = data.draw(st.integers(1, len(values)))
    shares = inclusion(values, count)
    assert sum(shares) == pytest.approx(count)
    assert all(0 < share <= 1 for share in shares)
    pairs = sorted(zip(values, shares, strict=True))
    assert all(a[1] <= b[1] + 1e-9 for a, b in zip(pairs, pairs[1:], strict=False))  # noqa: RUF007
    assert len(systematic(shares, random.Random(0))) == count


def test_candidates_come_as_often_as_their_odds_say():
    shares, times, rng = inclusion([0.1, 0.5, 0.5, 0.9, 3.0], 2), [0] * 5, random.Random(1)
    for _ in range(6000):
        for index in systematic(shares, rng):
            times[index] += 1
    assert [n / 6000 for n in times] == pytest.approx(shares, abs=0.02)
    assert shares[1] == pytest.approx(shares[2])


def test_picks_weighed_by_their_odds_give_back_what_was_there():
    """The Horvitz-Thompson mean of the active arm is that of all candidates, though it picks the large ones."""
    values, rng, plain, weighed = [number / 10 for number in range(40)], random.Random(2), [], []
    for _ in range(3000):
        picks = [pick for pick in select(values, 10, control_share=0.2, rng=rng) if pick.arm == ACTIVE]
        plain.append(sum(values[pick.index] for pick in picks) / len(picks))
        weighed.append(sum(values[pick.index] / pick.propensity for pick in picks) / 32)
    true = sum(values) / len(values)
    assert sum(plain) / 3000 > true + 0.8
    assert sum(weighed) / 3000 == pytest.approx(true, abs=0.1)


def test_there_is_always_a_control_arm_with_the_same_odds_for_all():
    picks = select([float(n) for n in range(100)], 20, control_share=0.25, rng=random.Random(3))
    control = [pick for pick in picks if pick.arm == RANDOM]
    assert len(control) == 5 and {pick.propensity for pick in control} == {5 / 25}
    assert len({pick.index for pick in picks}) == len(picks) == 20


@pytest.mark.parametrize("wanted, there", [(10, 4), (4, 4), (1, 1), (3, 50)])
def test_few_candidates_are_no_obstacle(wanted, there):
    picks = select([0.0] * there, wanted, control_share=0.2, rng=random.Random(4))
    assert len({pick.index for pick in picks}) == min(wanted, there)
    assert all(0 < pick.propensity <= 1 for pick in picks)
