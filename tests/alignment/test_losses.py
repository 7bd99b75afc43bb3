"""The losses of mitigation and preference against values computed by hand, and their derivatives."""

import math

import pytest
import torch
from torch.autograd import gradcheck

from alignment.losses.mitigation import counterfactual_penalty
from alignment.losses.preference import direct_preference, implicit_reward

LN2 = math.log(2)


def scores(*values: float) -> torch.Tensor:
    return torch.tensor(values, dtype=torch.float64, requires_grad=True)


def softplus(x: float) -> float:
    return math.log1p(math.exp(x))


def test_the_counterfactual_penalty_is_measured_in_variances():
    original, swapped, batch = scores(1.0, 2.0), scores(0.0, 2.0), scores(1.0, -1.0)
    assert counterfactual_penalty(original, swapped, batch, epsilon=0).item() == pytest.approx(0.5)
    scaled = counterfactual_penalty(10 * original, 10 * swapped, 10 * batch, epsilon=0)
    assert scaled.item() == pytest.approx(0.5)


def test_dpo_costs_log_two_where_policy_and_reference_agree():
    chosen, rejected = scores(-12.0, -40.0), scores(-9.0, -4.0)
    assert direct_preference(chosen, rejected, chosen, rejected, beta=0.3).tolist() == pytest.approx([LN2, LN2])
    assert implicit_reward(chosen, chosen, beta=0.3).tolist() == [0.0, 0.0]


def test_dpo_against_a_hand_computed_pair():
    # log-ratios +2 and -1, beta 0.1: difference 0.3
    loss = direct_preference(scores(-10.0), scores(-8.0), scores(-12.0), scores(-7.0), beta=0.1)
    assert loss.item() == pytest.approx(softplus(-0.3))
    smoothed = direct_preference(
        scores(-10.0), scores(-8.0), scores(-12.0), scores(-7.0), beta=0.1, label_smoothing=0.1
    )
    assert smoothed.item() == pytest.approx(0.9 * softplus(-0.3) + 0.1 * softplus(0.3))


def test_the_derivatives_of_the_other_losses():
    a, b, c = scores(0.2, -1.0, 3.0), scores(0.1, 2.0, -2.0), scores(1.0, -0.5, 0.7)
    reference = scores(0.5, 0.5, -1.0).detach()
    assert gradcheck(lambda x, y, z: counterfactual_penalty(x, y, z), (a, b, c))
    assert gradcheck(lambda x, y: direct_preference(x, y, c.detach(), reference, beta=0.4), (a, b))
