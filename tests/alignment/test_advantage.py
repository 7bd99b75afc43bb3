"""Advantages against hand-computed values and a sum over all later steps; nothing outside a completion matters."""

import pytest
import torch

from alignment.sampling.advantage import (
    generalized_advantages,
    last_token,
    token_rewards,
    values_to_bootstrap,
    whiten,
)

ROWS = [[0, 1, 1, 1, 0], [1, 1, 1, 1, 1], [0, 0, 1, 0, 0]]
MASK = torch.tensor(ROWS).bool()


def draw(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def by_sums(rewards, values, mask, gamma, gae_lambda):
    """The definition: the advantage of a token is the discounted sum of every later surprise, token by token."""
    found = torch.zeros_like(rewards)
    for row in range(len(rewards)):
        places = mask[row].nonzero()[:, 0].tolist()
        for start in places:
            for t in places[places.index(start) :]:
                surprise = rewards[row, t] + gamma * values[row, t + 1] - values[row, t]
                found[row, start] += (gamma * gae_lambda) ** (t - start) * surprise
    return found


def test_advantages_against_hand_computed_values():
    rewards, values = torch.tensor([[0.0, 1.0, 2.0]]), torch.tensor([[0.5, 1.0, 1.5, 0.0]])
    mask = torch.ones(1, 3).bool()
    # deltas: 0 + 0.5 - 0.5 = 0, 1 + 0.75 - 1 = 0.75, 2 + 0 - 1.5 = 0.5; gamma lambda = 0.4
    advantages, returns = generalized_advantages(rewards, values, mask, gamma=0.5, gae_lambda=0.8)
    assert advantages[0].tolist() == pytest.approx([0.4 * 0.95, 0.75 + 0.4 * 0.5, 0.5])
    assert returns[0].tolist() == pytest.approx([0.5 + 0.38, 1.0 + 0.95, 2.0])


@pytest.mark.parametrize(("gamma", "gae_lambda"), [(1.0, 0.95), (0.9, 0.5), (1.0, 0.0), (0.99, 1.0)])
def test_the_backward_recursion_equals_the_sum_over_all_later_steps(gamma, gae_lambda):
    rewards, values = draw(3, 5), draw(3, 6, seed=1)
    advantages, returns = generalized_advantages(rewards, values, MASK, gamma=gamma, gae_lambda=gae_lambda)
    assert torch.allclose(advantages, by_sums(rewards, values, MASK, gamma, gae_lambda), atol=1e-12)
    assert torch.allclose(returns, torch.where(MASK, advantages + values[:, :-1], 0.0))


def test_with_lambda_one_a_return_is_the_discounted_sum_of_rewards_and_the_last_value():
    rewards, values = draw(1, 4), draw(1, 5, seed=1)
    _, returns = generalized_advantages(rewards, values, torch.ones(1, 4).bool(), gamma=0.9, gae_lambda=1.0)
    expected = sum(0.9**t * rewards[0, t] for t in range(4)) + 0.9**4 * values[0, 4]
    assert returns[0, 0].item() == pytest.approx(expected.item())


def test_what_stands_outside_a_completion_changes_no_advantage():
    rewards, values, terminal = draw(3, 5), draw(3, 6, seed=1), torch.tensor([True, False, True])

    def advantages(noise):
        states = values_to_bootstrap(values + noise * ~states_of(MASK, terminal), MASK, terminal)
        return generalized_advantages(rewards + noise * ~MASK, states, MASK, gamma=1.0, gae_lambda=0.95)

    for quiet, noisy in zip(advantages(0.0), advantages(100.0), strict=True):
        assert torch.equal(quiet, noisy)


def states_of(mask, terminal):
    """Places that are states of a completion, written out row by row."""
    found = torch.zeros(len(mask), mask.shape[1] + 1).bool()
    for row, places in enumerate(mask):
        first, n = int(places.int().argmax()), int(places.sum())
        found[row, first : first + n + (not terminal[row])] = True
    return found


def test_a_value_lives_one_step_past_the_last_token_unless_nothing_can_follow():
    kept = values_to_bootstrap(torch.ones(3, 6), MASK, torch.tensor([True, False, False]))
    assert kept.tolist() == [[0, 1, 1, 1, 0, 0], [1, 1, 1, 1, 1, 1], [0, 0, 1, 1, 0, 0]]


def test_the_score_arrives_at_the_last_token_and_every_token_pays_its_own_penalty():
    penalties = torch.full((3, 5), 0.25)
    rewards = token_rewards(torch.tensor([2.0, -1.0, 3.0]), penalties, MASK)
    assert rewards.tolist() == [
        [0, -0.25, -0.25, 1.75, 0], [-0.25, -0.25, -0.25, -0.25, -1.25], [0, 0, 2.75, 0, 0]]  # fmt: skip
    assert last_token(MASK).nonzero().tolist() == [[0, 3], [1, 4], [2, 2]]


def test_whitened_values_have_mean_zero_and_variance_one_over_the_mask_alone():
    values = draw(3, 5) * 7 + 3
    white = whiten(values + 1000 * ~MASK, MASK)
    assert white[MASK].mean().abs() < 1e-12 and white[MASK].var() == pytest.approx(1)
    assert not white[~MASK].any()
    # by hand: 1, 2, 3 have mean 2 and unbiased variance 1
    assert whiten(torch.tensor([[1.0, 2.0, 3.0, 9.0]]), torch.tensor([[True, True, True, False]])).tolist() == [
        pytest.approx([-1, 0, 1, 0])]  # fmt: skip


def test_whitened_rewards_keep_their_mean():
    white = whiten(draw(3, 5) * 7 + 3, MASK, shift_mean=False)
    assert white[MASK].mean() == pytest.approx((draw(3, 5) * 7 + 3)[MASK].mean())
    assert white[MASK].var() == pytest.approx(1)


def test_equal_values_whiten_to_zero_and_one_token_is_refused():
    assert not whiten(torch.full((3, 5), 4.0), MASK).any()
    with pytest.raises(ValueError, match="at least 2 tokens, got 1"):
        whiten(torch.ones(1, 2), torch.tensor([[True, False]]))
