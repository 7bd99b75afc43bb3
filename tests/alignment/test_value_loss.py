"""The value loss against hand-computed values and finite differences."""

import pytest
import torch
from torch.autograd import gradcheck

from alignment.losses.value import clipped_value_loss, clipped_values


def column(*values: float) -> torch.Tensor:
    return torch.tensor(values, dtype=torch.float64, requires_grad=True)


def test_the_worse_of_the_value_and_the_clipped_value_counts():
    values, old, returns = column(1.0, 1.0, 0.1), column(0.0, 0.0, 0.0), column(2.0, 0.5, 2.0)
    # 1 clips to 0.2: (0.2 - 2)^2 / 2 = 1.62 beats 0.5; (1 - 0.5)^2 / 2 = 0.125 beats 0.045; 0.1 is not clipped
    losses = clipped_value_loss(values, old, returns, clip=0.2)
    assert losses.tolist() == pytest.approx([1.62, 0.125, 1.805])
    assert clipped_values(values, old, returns, clip=0.2).tolist() == [True, False, False]
    losses.sum().backward()
    assert values.grad.tolist() == pytest.approx([0, 0.5, -1.9])  # none where the clipped value was worse


def test_without_a_clip_it_is_half_the_squared_error():
    values, returns = column(3.0), column(1.0)
    assert clipped_value_loss(values, column(0.0), returns, clip=0).item() == 2
    assert not clipped_values(values, column(0.0), returns, clip=0).any()


def test_before_the_first_step_the_clip_changes_nothing():
    values, returns = column(0.3, -2.0), column(1.0, 4.0)
    plain = clipped_value_loss(values, values, returns, clip=0)
    assert torch.equal(clipped_value_loss(values, values, returns, clip=0.2), plain)


def test_the_derivative_agrees_with_finite_differences():
    old, returns = column(0.0, 0.3, -1.0, 2.0), column(1.0, -0.4, 0.2, 2.5)
    for clip in (0.0, 0.2):
        assert gradcheck(lambda v, c=clip: clipped_value_loss(v, old, returns, clip=c), (column(0.5, 0.2, 0.7, 2.1),))
