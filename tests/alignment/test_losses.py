"""Every loss against a value computed by hand, its derivative against finite differences, and its invariances."""

import math

import pytest
import torch
from torch.autograd import gradcheck

from alignment.losses.mitigation import counterfactual_penalty
from alignment.losses.pairwise import weighted_mean
from alignment.losses.preference import direct_preference, implicit_reward
from alignment.losses.reward import bradley_terry, centering, half_win_tie

LN2 = math.log(2)


def scores(*values: float) -> torch.Tensor:
    return torch.tensor(values, dtype=torch.float64, requires_grad=True)


def softplus(x: float) -> float:
    return math.log1p(math.exp(x))


def test_equal_scores_cost_log_two():
    same = scores(0.3, -7.0)
    assert bradley_terry(same, same).tolist() == pytest.approx([LN2, LN2])
    assert half_win_tie(same, same).tolist() == pytest.approx([LN2, LN2])


def test_bradley_terry_against_a_hand_computed_pair():
    # sigmoid(1.5 - 0.5) = 0.731058..., -ln of it = 0.313261...
    assert bradley_terry(scores(1.5), scores(0.5)).item() == pytest.approx(0.3132617)


def test_an_additive_margin_shifts_the_difference_and_a_scaled_one_the_weight():
    chosen, rejected, margins = scores(1.5), scores(0.5), scores(2 / 3)
    additive = bradley_terry(chosen, rejected, margins=margins, margin="additive")
    scaled = bradley_terry(chosen, rejected, margins=margins, margin="scaled")
    assert additive.item() == pytest.approx(softplus(-(1 - 2 / 3)))
    assert scaled.item() == pytest.approx(softplus(-1) * 5 / 3)


def test_smoothed_labels_mix_both_outcomes():
    loss = bradley_terry(scores(1.5), scores(0.5), label_smoothing=0.2)
    assert loss.item() == pytest.approx(0.8 * softplus(-1) + 0.2 * softplus(1))


def test_a_constant_added_to_both_scores_changes_nothing():
    chosen, rejected = scores(0.1, 2.0, -3.0), scores(0.4, 1.0, 5.0)
    for loss in (bradley_terry, half_win_tie):
        assert torch.allclose(loss(chosen + 11, rejected + 11), loss(chosen, rejected), atol=1e-12)


def test_a_tie_pulls_together_whichever_side_is_ahead():
    first, second = scores(2.0), scores(-1.0)
    loss = half_win_tie(first, second)
    assert loss.item() == pytest.approx(half_win_tie(second, first).item())
    assert loss.item() == pytest.approx(math.log(2 * math.cosh(1.5)))
    loss.backward()
    assert first.grad.item() == pytest.approx(0.5 * math.tanh(1.5))
    assert second.grad.item() == pytest.approx(-0.5 * math.tanh(1.5))


def test_the_half_win_is_davidsons_tie_in_the_limit():
    nu, difference = 1e-9, 1.7
    davidson = -math.log(nu / (math.exp(difference / 2) + math.exp(-difference / 2) + nu))
    assert half_win_tie(scores(difference), scores(0.0)).item() == pytest.approx(davidson + math.log(nu))


def test_centering_is_the_squared_sum():
    assert centering(scores(1.0, -2.0), scores(0.5, 2.0)).tolist() == pytest.approx([2.25, 0.0])


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


@pytest.mark.parametrize("margin", ["none", "additive", "scaled"])
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_the_derivative_of_bradley_terry(margin, smoothing):
    margins = torch.tensor([0.0, 1 / 3, 1.0], dtype=torch.float64)

    def loss(chosen, rejected):
        return bradley_terry(chosen, rejected, margins=margins, margin=margin, label_smoothing=smoothing)

    assert gradcheck(loss, (scores(0.2, -1.0, 3.0), scores(0.1, 2.0, -2.0)))


def test_the_derivatives_of_the_other_losses():
    a, b, c = scores(0.2, -1.0, 3.0), scores(0.1, 2.0, -2.0), scores(1.0, -0.5, 0.7)
    reference = scores(0.5, 0.5, -1.0).detach()
    for loss in (half_win_tie, centering):
        assert gradcheck(loss, (a, b))
    assert gradcheck(lambda x, y, z: counterfactual_penalty(x, y, z), (a, b, c))
    assert gradcheck(lambda x, y: direct_preference(x, y, c.detach(), reference, beta=0.4), (a, b))


def test_large_differences_stay_finite():
    assert torch.isfinite(bradley_terry(scores(-1e4), scores(1e4))).all()
    assert torch.isfinite(half_win_tie(scores(-1e4), scores(1e4))).all()


def test_a_weighted_mean_over_parts_is_the_mean_over_the_whole():
    losses, weights = scores(1.0, 2.0, 4.0), torch.tensor([1.0, 1.0, 0.5], dtype=torch.float64)
    assert weighted_mean(losses, weights).item() == pytest.approx(5 / 2.5)


def test_shapes_that_do_not_match_are_refused():
    with pytest.raises(ValueError, match="equal non-empty"):
        bradley_terry(scores(1.0), scores(1.0, 2.0))
    with pytest.raises(ValueError, match="no margins"):
        bradley_terry(scores(1.0), scores(2.0), margin="additive")
