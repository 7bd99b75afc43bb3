"""What adjusts itself during training: by hand, within its bounds, and out of a stored state."""

import math

import pytest

from alignment.sampling.control import KLController, Multiplier


def test_a_fixed_beta_stays():
    controller = KLController(0.1)
    controller.update(50.0, 64)
    assert controller.beta == 0.1


def test_beta_rises_over_the_target_and_falls_below_it():
    controller = KLController(0.1, target_nats=5.0, horizon=1000)
    controller.update(5.5, 100)  # a tenth over the target
    assert controller.beta == pytest.approx(0.1 * (1 + 0.1 * 100 / 1000))
    controller.update(0.0, 100)  # an error is a fifth at most
    assert controller.beta == pytest.approx(0.1 * 1.01 * (1 - 0.2 * 100 / 1000))


def test_the_multiplier_climbs_while_the_cost_is_over_its_limit_and_comes_back():
    multiplier = Multiplier(limit=0.2, start=1.0, rate=0.5, most=10.0)
    multiplier.update(0.6)
    assert multiplier.value == pytest.approx(math.exp(0.5 * 0.4))
    multiplier.update(0.0)
    assert multiplier.value < math.exp(0.2)


def test_the_multiplier_stays_within_its_bounds():
    multiplier = Multiplier(limit=0.0, start=1.0, rate=10.0, most=5.0, least=0.01)
    for _ in range(20):
        multiplier.update(1.0)
    assert multiplier.value == pytest.approx(5.0)
    for _ in range(2000):
        multiplier.update(-1.0)
    assert multiplier.value == pytest.approx(0.01)


def test_both_go_on_from_their_stored_state():
    first, second = KLController(0.1, target_nats=1.0), KLController(0.1, target_nats=1.0)
    first.update(3.0, 64)
    second.load_state_dict(first.state_dict())
    assert second.beta == first.beta
    moved, fresh = (Multiplier(limit=0.0, start=1.0, rate=0.1, most=5.0) for _ in range(2))
    moved.update(1.0)
    fresh.load_state_dict(moved.state_dict())
    assert fresh.value == moved.value
