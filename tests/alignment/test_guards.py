"""The figures that end a run early, each against a value computed by hand; and a run that they end."""

import math

import pytest
import torch

from alignment.config import Guards, JobError, build, guards
from alignment.guards import (
    Baseline,
    disagreement,
    disagreement_ratio,
    length_ratio,
    loop_guards,
    mean_repetition,
    repetition,
)


def test_limits_of_zero_are_off_and_the_others_name_their_figure():
    assert loop_guards(Guards()) == []
    on = loop_guards(guards({"max_kl_nats": 10, "max_repetition": 0.2}))
    assert [(guard.key, guard.limit) for guard in on] == [("kl_nats", 10), ("repetition", 0.2)]


def test_a_figure_over_its_limit_gives_the_reason_and_the_remedy():
    (guard,) = loop_guards(Guards(max_kl_nats=10))
    assert guard.reason({"kl_nats": 9.9}) == guard.reason({}) == ""
    assert guard.reason({"kl_nats": 12.0}).startswith("kl_nats is 12, over its limit 10: raise the KL coefficient")
    assert guard.reason({"kl_nats": math.nan})


@pytest.mark.parametrize("field, value", [("max_length_ratio", 0.9), ("max_repetition", 1.0), ("max_kl_nats", -1)])
def test_a_limit_that_makes_no_sense_is_refused(field, value):
    with pytest.raises(JobError, match=f"{field} is {value}"):
        build(Guards, {field: value})


def test_repetition_is_the_share_of_runs_seen_before():
    # runs of 1 2 1 2 1 2 1: 1212 2121 1212 2121, half of them for the second time
    assert repetition([1, 2, 1, 2, 1, 2, 1]) == 0.5
    assert repetition([1, 2, 3]) == 0.0
    assert mean_repetition([[1, 2, 1, 2, 1, 2, 1], [1, 2, 3, 4, 5]]) == 0.25


def test_a_length_that_doubles_and_one_that_halves_drift_alike():
    start = Baseline()
    assert length_ratio(start, [4, 6]) == 1
    assert length_ratio(start, [8, 12]) == length_ratio(start, [2, 3]) == 2
    assert length_ratio(start, [0, 0]) == math.inf


def test_heads_that_differ_by_a_constant_do_not_disagree():
    scores = torch.tensor([[1.0, 5.0], [2.0, 6.0], [4.0, 8.0]])
    assert disagreement(scores) == pytest.approx(0, abs=1e-6)
    # centred: (-1, 1) and (1, -1): standard deviation 1 in both rows
    assert disagreement(torch.tensor([[0.0, 2.0], [2.0, 0.0]])) == pytest.approx(1)


def test_what_later_figures_are_measured_against_survives_the_state():
    start, resumed = Baseline(), Baseline()
    disagreement_ratio(start, torch.tensor([[0.0, 2.0], [2.0, 0.0]]))
    resumed.load_state_dict(start.state_dict())
    assert disagreement_ratio(resumed, torch.tensor([[0.0, 6.0], [6.0, 0.0]])) == pytest.approx(3)
