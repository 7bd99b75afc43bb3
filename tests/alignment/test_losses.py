"""The counterfactual penalty against a value computed by hand, and its derivative."""

import pytest
import torch
from torch.autograd import gradcheck

from alignment.losses.mitigation import counterfactual_penalty


def scores(*values: float) -> torch.Tensor:
    return torch.tensor(values, dtype=torch.float64, requires_grad=True)


def test_the_counterfactual_penalty_is_measured_in_variances():
    original, swapped, batch = scores(1.0, 2.0), scores(0.0, 2.0), scores(1.0, -1.0)
    assert counterfactual_penalty(original, swapped, batch, epsilon=0).item() == pytest.approx(0.5)
    scaled = counterfactual_penalty(10 * original, 10 * swapped, 10 * batch, epsilon=0)
    assert scaled.item() == pytest.approx(0.5)


def test_the_derivative_of_the_counterfactual_penalty():
    a, b, c = scores(0.2, -1.0, 3.0), scores(0.1, 2.0, -2.0), scores(1.0, -0.5, 0.7)
    assert gradcheck(lambda x, y, z: counterfactual_penalty(x, y, z), (a, b, c))
