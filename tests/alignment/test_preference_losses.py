"""Every preference loss against a value computed by hand, and its derivative against finite differences."""

import math

import pytest
import torch
from torch.autograd import gradcheck

from alignment.config import JobError, PreferenceConfig, build
from alignment.losses.preference import (
    direct_preference,
    hinge_preference,
    identity_preference,
    implicit_reward,
    kahneman_tversky,
    length_margin,
    log_odds,
    odds_ratio,
    reference_point,
    robust_preference,
    simple_preference,
)
from alignment.objectives.paired import pair_losses

LN2 = math.log(2)
EVERY = {
    "sigmoid": {},
    "cdpo": {"loss": "sigmoid", "label_smoothing": 0.2},
    "rdpo": {"loss": "sigmoid", "terms": {"length_penalty": 0.05}},
    "rpo": {"loss": "sigmoid", "terms": {"nll_weight": 0.5}},
    "robust": {"label_smoothing": 0.2},
    "hinge": {},
    "ipo": {},
    "simpo": {"terms": {"target_margin": 0.3}},
    "orpo": {},
}


def config_of(name: str) -> PreferenceConfig:
    return build(PreferenceConfig, {"loss": name, "beta": 0.3, **EVERY[name]})


def numbers(*values: float) -> torch.Tensor:
    return torch.tensor(values, dtype=torch.float64, requires_grad=True)


def softplus(x: float) -> float:
    return math.log1p(math.exp(x))


# Two pairs: log-probabilities of chosen and rejected under policy and reference, and the tokens of the completions.
POLICY = torch.tensor([[-10.0, -8.0], [-3.0, -30.0]], dtype=torch.float64)
REFERENCE = torch.tensor([[-12.0, -7.0], [-2.0, -29.0]], dtype=torch.float64)
TOKENS = torch.tensor([[5.0, 2.0], [4.0, 10.0]], dtype=torch.float64)


def test_policy_and_reference_that_agree_cost_log_two():
    for name in ("sigmoid", "cdpo", "robust"):
        assert pair_losses(REFERENCE, REFERENCE, TOKENS, config_of(name)).tolist() == pytest.approx([LN2, LN2])
    assert implicit_reward(REFERENCE, REFERENCE, beta=0.3).abs().max() == 0


def test_dpo_by_hand():
    # log-ratios +2 and -1, beta 0.3: a margin of 0.9; -1 and -1: none
    expected = [softplus(-0.9), LN2]
    assert pair_losses(POLICY, REFERENCE, TOKENS, config_of("sigmoid")).tolist() == pytest.approx(expected)


def test_conservative_labels_mix_both_outcomes_and_robust_ones_take_the_noise_out():
    right, wrong = softplus(-0.9), softplus(0.9)
    assert direct_preference(numbers(0.9), label_smoothing=0.2).item() == pytest.approx(0.8 * right + 0.2 * wrong)
    robust = robust_preference(numbers(0.9), label_smoothing=0.2).item()
    assert robust == pytest.approx((0.8 * right - 0.2 * wrong) / 0.6)


def test_the_robust_loss_is_unbiased_under_flipped_labels():
    margin, noise = numbers(0.9), 0.3
    kept, flipped = (robust_preference(sign * margin, label_smoothing=noise) for sign in (1, -1))
    assert ((1 - noise) * kept + noise * flipped).item() == pytest.approx(softplus(-0.9))


def test_the_conservative_loss_stops_at_a_finite_margin_and_dpo_does_not():
    margin = numbers(math.log(0.8 / 0.2))
    direct_preference(margin, label_smoothing=0.2).backward()
    assert margin.grad.item() == pytest.approx(0, abs=1e-12)
    further = numbers(3.0)
    direct_preference(further).backward()
    assert further.grad.item() < 0


def test_length_explains_a_part_of_a_preference_for_the_longer_completion():
    margins = length_margin(TOKENS[:, 0], TOKENS[:, 1], length_penalty=0.05)
    assert margins.tolist() == pytest.approx([0.15, -0.3])
    losses = pair_losses(POLICY, REFERENCE, TOKENS, config_of("rdpo"))
    assert losses.tolist() == pytest.approx([softplus(-0.9 - 0.15), softplus(0.3)])


def test_the_length_penalty_pushes_less_for_longer_winners_than_for_shorter_ones():
    gradients = []
    for longer in (True, False):
        policy = REFERENCE[:1].clone().requires_grad_()
        tokens = torch.tensor([[9.0, 2.0] if longer else [2.0, 9.0]], dtype=torch.float64)
        pair_losses(policy, REFERENCE[:1], tokens, config_of("rdpo")).sum().backward()
        gradients.append(-policy.grad[0, 0].item())
    assert 0 < gradients[0] < 0.5 * 0.3 < gradients[1]  # at equal policies plain DPO pushes by half of beta


def test_the_likelihood_term_is_a_token_of_the_chosen_completion():
    plain, with_term = (pair_losses(POLICY, REFERENCE, TOKENS, config_of(name)) for name in ("sigmoid", "rpo"))
    assert (with_term - plain).tolist() == pytest.approx([0.5 * 10 / 5, 0.5 * 3 / 4])


def test_the_hinge_is_zero_past_a_margin_of_one():
    assert hinge_preference(numbers(0.4, 1.0, 7.0, -2.0)).tolist() == pytest.approx([0.6, 0, 0, 3])


def test_ipo_by_hand_on_log_ratios_a_token():
    # (2 / 5) - (-1 / 2) = 0.9 and (-1 / 4) - (-1 / 10) = -0.15, each against 1 / (2 * 0.3)
    expected = [(0.9 - 1 / 0.6) ** 2, (-0.15 - 1 / 0.6) ** 2]
    assert pair_losses(POLICY, REFERENCE, TOKENS, config_of("ipo")).tolist() == pytest.approx(expected)
    assert identity_preference(numbers(1 / 0.6), beta=0.3).item() == pytest.approx(0)


def test_simpo_by_hand_needs_no_reference():
    # means a token -2 and -4, then -0.75 and -3; beta 0.3, target 0.3
    expected = [softplus(-(0.3 * 2 - 0.3)), softplus(-(0.3 * 2.25 - 0.3))]
    assert pair_losses(POLICY, None, TOKENS, config_of("simpo")).tolist() == pytest.approx(expected)


def test_orpo_by_hand_needs_no_reference():
    def odds(mean: float) -> float:
        return math.exp(mean) / (1 - math.exp(mean))

    first = 2 + 0.3 * softplus(-math.log(odds(-2) / odds(-4)))
    second = 0.75 + 0.3 * softplus(-math.log(odds(-0.75) / odds(-3)))
    assert pair_losses(POLICY, None, TOKENS, config_of("orpo")).tolist() == pytest.approx([first, second])


def test_log_odds_are_exact_at_both_ends():
    assert log_odds(numbers(-1e-9)).item() == pytest.approx(-math.log(1e-9), abs=1e-6)
    assert log_odds(numbers(-700.0)).item() == pytest.approx(-700)
    assert log_odds(numbers(-math.log(2))).item() == pytest.approx(0, abs=1e-12)
    certain = numbers(0.0)
    odds_ratio(certain, numbers(-1.0)).sum().backward()
    assert torch.isfinite(certain.grad).all()


def test_kto_by_hand():
    desirable = torch.tensor([True, False])
    losses = kahneman_tversky(numbers(2.0, 2.0), desirable, torch.tensor(0.5), beta=0.3)
    gain = 1 / (1 + math.exp(-0.3 * 1.5))
    assert losses.tolist() == pytest.approx([1 - gain, gain])


def test_the_reference_point_is_never_negative_and_has_no_gradient():
    mismatched = numbers(-3.0, 1.0)
    assert reference_point(mismatched).item() == 0
    assert reference_point(numbers(3.0, 1.0)).item() == 2
    assert not reference_point(mismatched).requires_grad


@pytest.mark.parametrize("name", EVERY)
def test_the_derivative_of_every_pair_loss(name):
    config = config_of(name)
    reference = None if config.loss in {"simpo", "orpo"} else REFERENCE
    policy = (POLICY + torch.tensor([[0.3, -0.2], [0.1, 0.4]])).requires_grad_()
    assert gradcheck(lambda p: pair_losses(p, reference, TOKENS, config), (policy,))


def test_the_derivative_of_kto():
    desirable = torch.tensor([True, False, True])
    assert gradcheck(
        lambda ratio: kahneman_tversky(ratio, desirable, torch.tensor(0.4).double(), beta=0.7), (numbers(0.3, -1, 2),)
    )


@pytest.mark.parametrize("name", EVERY)
def test_a_pairs_loss_does_not_depend_on_its_neighbours(name):
    whole = pair_losses(POLICY, REFERENCE, TOKENS, config_of(name))
    alone = [pair_losses(POLICY[i:][:1], REFERENCE[i:][:1], TOKENS[i:][:1], config_of(name)) for i in (0, 1)]
    assert whole.tolist() == torch.cat(alone).tolist()


def test_extreme_margins_stay_finite():
    far = torch.tensor([[-1e4, -1.0], [-1.0, -1e4]], dtype=torch.float64)
    for name in EVERY:
        assert torch.isfinite(pair_losses(far, REFERENCE, TOKENS, config_of(name))).all()


def test_shapes_that_do_not_match_are_refused():
    with pytest.raises(ValueError, match="equal non-empty"):
        simple_preference(numbers(1.0), numbers(1.0, 2.0), beta=1.0, target_margin=0.0)


@pytest.mark.parametrize(
    ("raw", "field"),
    [
        ({"loss": "dpo"}, "loss is 'dpo'"),
        ({"beta": 0}, "beta is 0"),
        ({"loss": "robust"}, "label_smoothing is 0"),
        ({"loss": "hinge", "label_smoothing": 0.1}, "hinge takes none"),
        ({"loss": "simpo", "terms": {"length_penalty": 0.1}}, "length_penalty is 0.1"),
        ({"loss": "sigmoid", "terms": {"target_margin": 1.0}}, "only simpo"),
        ({"loss": "orpo", "terms": {"nll_weight": 1.0}}, "weight 1"),
        ({"loss": "kto", "terms": {"nll_weight": 1.0}}, "kto takes none"),
        ({"loss": "orpo", "max_chosen_drop_nats": 3.0}, "no reference"),
        ({"terms": {"alpha": 1.0}}, "no field 'alpha'"),
        ({"unpaired": {"undesirable_to": 5.0}}, "undesirable_to is 5.0"),
        ({"rows": "labels.jsonl"}, "kto alone"),
        ({"precision": "fp8"}, "precision is 'fp8'"),
    ],
)
def test_a_config_that_would_be_ignored_in_part_is_refused(raw, field):
    with pytest.raises(JobError, match=field):
        build(PreferenceConfig, raw)
