"""The losses of policy gradients against values worked out by hand, and their gradients against differences."""

import math

import pytest
import torch

from alignment.losses.policy import (
    VARIANTS,
    clipped_policy,
    is_clipped,
    kl_estimate,
    log_ratio,
    loss_weights,
    truncated_importance,
)

LN2 = math.log(2)
POLICY = torch.tensor([[-1.0, -2.0, -0.5], [-3.0, -1.0, -7.0]])
OLD = torch.tensor([[-1.0 - LN2, -2.0, -0.5 + LN2], [-3.0, -1.0 + 2 * LN2, 99.0]])
MASK = torch.tensor([[True, True, True], [True, True, False]])


def test_a_ratio_is_of_a_token_of_a_whole_completion_or_its_geometric_mean():
    assert log_ratio(POLICY, OLD, MASK).tolist() == [
        pytest.approx([LN2, 0, -LN2]), pytest.approx([0, -2 * LN2, 0])
    ]  # fmt: skip
    assert log_ratio(POLICY, OLD, MASK, "sequence_sum").tolist() == [
        [pytest.approx(0, abs=1e-6)], [pytest.approx(-2 * LN2)]
    ]  # fmt: skip
    assert log_ratio(POLICY, OLD, MASK, "sequence_mean")[1].item() == pytest.approx(-LN2)


def test_a_ratio_stays_finite_however_far_the_policies_are_apart():
    apart = log_ratio(torch.tensor([[0.0]]), torch.tensor([[-1e6]]), torch.tensor([[True]]))
    assert clipped_policy(apart, torch.tensor([[-1.0]]), clip_low=0.2, clip_high=0.2).isfinite().all()


@pytest.mark.parametrize(
    ("ratio", "advantage", "loss", "clipped"),
    [
        (1.0, 2.0, -2.0, False),
        (1.5, 2.0, -2.4, True),  # earns no more than at 1.2
        (0.5, 2.0, -1.0, False),
        (1.5, -2.0, 3.0, False),  # a bad token that became likelier costs all of it
        (0.5, -2.0, 1.6, True),
        (9.0, -2.0, 6.0, False),  # but never more than three times its advantage
    ],
)
def test_the_clipped_surrogate_by_hand(ratio, advantage, loss, clipped):
    given = torch.tensor([[math.log(ratio)]]), torch.tensor([[advantage]])
    limits = {"clip_low": 0.2, "clip_high": 0.2}
    assert clipped_policy(*given, **limits, dual_clip=3.0).item() == pytest.approx(loss)
    assert is_clipped(*given, **limits).item() is clipped


def test_a_clipped_token_has_no_gradient():
    policy = torch.tensor([[math.log(1.5), 0.0]], requires_grad=True)
    ratios = log_ratio(policy, torch.zeros(1, 2), torch.ones(1, 2, dtype=torch.bool))
    clipped_policy(ratios, torch.tensor([[2.0]]), clip_low=0.2, clip_high=0.2).sum().backward()
    assert policy.grad.tolist() == [[0.0, -2.0]]


def test_the_three_estimates_of_the_kl_by_hand():
    policy, reference = torch.tensor([[-1.0]]), torch.tensor([[-1.5]])
    found = {kind: kl_estimate(policy, reference, kind).item() for kind in ("k1", "k2", "k3")}
    assert found == pytest.approx({"k1": 0.5, "k2": 0.125, "k3": math.exp(-0.5) - 0.5})
    assert kl_estimate(policy, policy, "k3").item() == 0.0


def test_k1_and_k3_estimate_the_same_kl():
    generator = torch.Generator().manual_seed(0)
    p, q = ((torch.randn(8, generator=generator) / 2).log_softmax(0) for _ in range(2))
    exact = (p.exp() * (p - q)).sum().item()
    drawn = torch.multinomial(p.exp(), 200_000, replacement=True, generator=generator)
    for kind in ("k1", "k3"):
        assert kl_estimate(p[drawn], q[drawn], kind).mean().item() == pytest.approx(exact, rel=0.03)


def test_only_times_the_ratio_has_k3_the_gradient_of_the_kl():
    generator = torch.Generator().manual_seed(0)
    logits, other = (torch.randn(8, generator=generator, dtype=torch.float64) for _ in range(2))
    reference = (logits + other / 4).log_softmax(0)

    def gradient(value):  # of an expectation over all 8 tokens: no sampling error
        start = logits.clone().requires_grad_()
        value(start.log_softmax(0)).backward()
        return start.grad

    old = logits.log_softmax(0)
    exact = gradient(lambda p: (p.exp() * (p - reference)).sum())
    corrected = gradient(lambda p: (old.exp() * (p - old).exp() * kl_estimate(p, reference, "k3")).sum())
    assert torch.allclose(corrected, exact, atol=1e-12)
    for kind, right in (("k1", False), ("k2", True), ("k3", False)):
        alone = gradient(lambda p, kind=kind: (old.exp() * kl_estimate(p, reference, kind)).sum())
        assert torch.allclose(alone, exact, atol=1e-12) is right, kind


def test_the_three_averages_are_three_different_losses():
    losses = torch.tensor([[1.0, 2.0, 3.0], [10.0, 20.0, 99.0]])

    def mean(average, **options):
        return (loss_weights(MASK, average, **options) * losses).sum().item()

    assert mean("sequence_mean") == pytest.approx((2 + 15) / 2)
    assert mean("token_mean") == pytest.approx(36 / 5)
    assert mean("constant", longest=10) == pytest.approx(36 / 20)


def test_a_completion_without_a_token_to_learn_from_is_not_divided_by():
    weights = loss_weights(torch.tensor([[False, False], [True, True]]), "sequence_mean")
    assert weights.tolist() == [[0.0, 0.0], [0.25, 0.25]]


def test_weights_of_a_whole_minibatch_do_not_depend_on_the_padding():
    wide = torch.nn.functional.pad(MASK, (0, 5))
    for average in ("sequence_mean", "token_mean", "constant"):
        narrow = loss_weights(MASK, average, longest=7)
        assert torch.equal(loss_weights(wide, average, longest=7)[:, :3], narrow)


@pytest.mark.parametrize("name", VARIANTS)
@pytest.mark.parametrize("dual_clip", [0.0, 3.0])
def test_every_variant_has_the_gradient_of_its_loss(name, dual_clip):
    variant = VARIANTS[name]
    generator = torch.Generator().manual_seed(3)
    old = -torch.rand(4, 5, generator=generator, dtype=torch.float64)
    policy = (old + 0.3 * torch.randn(4, 5, generator=generator, dtype=torch.float64)).requires_grad_()
    reference = old - 0.1
    advantages = torch.randn(4, 1, generator=generator, dtype=torch.float64)
    mask = torch.arange(5) < torch.tensor([[5], [2], [1], [4]])

    def loss(policy):
        ratios = log_ratio(policy, old, mask, variant.ratio)
        limits = {"clip_low": variant.clip_low, "clip_high": variant.clip_high}
        losses = clipped_policy(ratios, advantages, **limits, dual_clip=dual_clip)
        losses = losses + 0.1 * kl_estimate(policy, reference, "k3")
        return (losses * loss_weights(mask, variant.average, longest=6)).sum()

    assert torch.autograd.gradcheck(loss, (policy,))


@pytest.mark.parametrize("kind", ["k1", "k2", "k3"])
def test_every_estimate_of_the_kl_has_its_gradient(kind):
    policy = torch.tensor([[-1.0, -2.0, -0.3]], dtype=torch.float64, requires_grad=True)
    reference = torch.tensor([[-1.4, -1.0, -0.3]], dtype=torch.float64)
    assert torch.autograd.gradcheck(lambda p: kl_estimate(p, reference, kind), (policy,))


def test_an_unknown_name_is_refused():
    with pytest.raises(ValueError, match="k4"):
        kl_estimate(POLICY, OLD, "k4")
    with pytest.raises(ValueError, match="word"):
        log_ratio(POLICY, OLD, MASK, "word")
    with pytest.raises(ValueError, match="constant"):
        loss_weights(MASK, "constant")


def test_truncated_importance_by_hand():
    sampled = torch.tensor([[-1.0, -2.0, -0.5, -3.0], [-1.0, -1.0, 5.0, -9.0]])
    old = sampled + torch.tensor([[0.0, LN2, -LN2, math.log(7)], [math.log(2.5), -2 * LN2, 3.0, 3.0]])
    mask = torch.tensor([[True, True, True, True], [True, True, False, False]])
    found = truncated_importance(old, sampled, mask, 3.0)
    assert found.tolist() == [pytest.approx([1, 2, 0.5, 3]), pytest.approx([2.5, 0.25, 1, 1])]  # 7 counts as 3
    assert truncated_importance(old, sampled, mask, 1.0).max() == 1
    assert truncated_importance(old, old, mask, 1.0).tolist() == [[1.0] * 4] * 2  # our own sampler: exactly 1


def test_truncation_is_all_that_keeps_the_expectation_from_the_policy_s_own():
    policy, sampler = torch.tensor([0.5, 0.3, 0.2]), torch.tensor([0.2, 0.3, 0.5])
    worth = torch.tensor([1.0, -2.0, 4.0])
    everywhere = torch.ones(1, 3, dtype=torch.bool)

    def expected(cap: float) -> float:
        weights = truncated_importance(policy.log()[None], sampler.log()[None], everywhere, cap)[0]
        return (sampler * weights * worth).sum().item()

    assert expected(100.0) == pytest.approx((policy * worth).sum().item())
    assert expected(2.0) == pytest.approx(0.2 * 2 * 1 - 0.3 * 2 + 0.2 * 4)  # 2.5 became 2
