"""The reward model's losses against values computed by hand, their derivatives, and their invariances."""

import math

import pytest
import torch
from torch.autograd import gradcheck

from alignment.losses.pairwise import corrected, weighted_mean
from alignment.losses.reward import bradley_terry, centering, davidson, plackett_luce, safety

LN2 = math.log(2)
WIN, DEFEAT, TIE = ([1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0])


def scores(*values: float) -> torch.Tensor:
    return torch.tensor(values, dtype=torch.float64, requires_grad=True)


def outcomes(*rows: list[float]) -> torch.Tensor:
    return torch.tensor(rows, dtype=torch.float64)


def softplus(x: float) -> float:
    return math.log1p(math.exp(x))


def test_equal_scores_cost_log_two():
    same = scores(0.3, -7.0)
    assert bradley_terry(same, same).tolist() == pytest.approx([LN2, LN2])


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


def test_a_soft_label_mixes_them_by_the_votes():
    loss = bradley_terry(scores(1.5, 0.0), scores(0.5, 3.0), share=scores(0.75, 0.0))
    assert loss.tolist() == pytest.approx([0.75 * softplus(-1) + 0.25 * softplus(1), softplus(-3)])


def test_the_robust_form_gives_the_clean_loss_on_average():
    first, second, wrong = scores(1.5), scores(0.5), 0.2
    robust = bradley_terry(first, second, label_smoothing=wrong, robust=True).item()
    assert robust == pytest.approx((0.8 * softplus(-1) - 0.2 * softplus(1)) / 0.6)
    flipped = bradley_terry(second, first, label_smoothing=wrong, robust=True).item()
    assert (1 - wrong) * robust + wrong * flipped == pytest.approx(softplus(-1))
    mixed = bradley_terry(first, second, label_smoothing=wrong).item()
    assert mixed != pytest.approx(robust, abs=0.1)  # cDPO's mixture is another loss


def test_corrected_labels_still_count_once():
    for robust in (False, True):
        assert sum(corrected(0.7, 0.3, 0.1, robust=robust)) == pytest.approx(1)
        assert sum(corrected(0.5, 0.2, 0.1, robust=robust)) == pytest.approx(0.7)


def test_davidson_against_hand_computed_probabilities():
    # difference ln 4, nu 1/2: 2, 1/2 and 1/2 of 3
    log_nu = torch.tensor(math.log(0.5), dtype=torch.float64)
    same = (scores(math.log(4)).expand(3), scores(0.0).expand(3))
    losses = davidson(*same, outcomes(WIN, DEFEAT, TIE), log_nu)
    assert losses.tolist() == pytest.approx([math.log(3 / 2), math.log(6), math.log(6)])
    assert (-losses).exp().sum().item() == pytest.approx(1)


def test_davidson_among_decisive_outcomes_is_bradley_terry_whatever_nu_is():
    first, second = scores(1.2), scores(0.5)
    for nu in (0.1, 3.0):
        win, defeat = (
            davidson(first, second, outcomes(said), torch.tensor(math.log(nu), dtype=torch.float64))
            for said in (WIN, DEFEAT)
        )
        assert (win - defeat).item() == pytest.approx(-0.7)
    without_ties = davidson(first, second, outcomes(WIN), torch.tensor(-40.0, dtype=torch.float64))
    assert without_ties.item() == pytest.approx(bradley_terry(first, second).item())


def test_a_tie_pulls_together_whichever_side_is_ahead():
    first, second = scores(2.0), scores(-1.0)
    log_nu = torch.tensor(math.log(0.8), dtype=torch.float64)
    davidson(first, second, outcomes(TIE), log_nu).backward()
    slope = math.sinh(1.5) / (2 * math.cosh(1.5) + 0.8)
    assert first.grad.item() == pytest.approx(slope)
    assert second.grad.item() == pytest.approx(-slope)


def test_a_ranking_without_ties_is_plackett_luce_by_hand():
    # the best is chosen from exp 2, 1, 0, then the next from 1, 0
    loss = plackett_luce(scores(1.0, 2.0, 0.0), [[1], [0], [2]])
    by_hand = math.log(math.e**2 + math.e + 1) - 2 + math.log(math.e + 1) - 1
    assert loss.item() == pytest.approx(by_hand)


def test_a_ranking_of_two_is_the_pair_loss():
    pair, log_nu = scores(0.7, -0.4), torch.tensor(-0.3, dtype=torch.float64)
    assert plackett_luce(pair, [[0], [1]]).item() == pytest.approx(bradley_terry(pair[:1], pair[1:]).item())
    for tiers, said in (([[0], [1]], WIN), ([[1], [0]], DEFEAT), ([[0, 1]], TIE)):
        by_pair = davidson(pair[:1], pair[1:], outcomes(said), log_nu)
        assert plackett_luce(pair, tiers, log_nu).item() == pytest.approx(by_pair.item())


def test_the_probabilities_of_all_rankings_with_ties_sum_to_one():
    worths, log_nu = scores(0.7, -0.4, 1.1, 0.0), torch.tensor(-0.3, dtype=torch.float64)
    rankings = list(ordered_partitions([0, 1, 2, 3]))
    assert len(rankings) == 75  # the ordered Bell number of 4
    assert sum(math.exp(-plackett_luce(worths, tiers, log_nu).item()) for tiers in rankings) == pytest.approx(1)
    strict = [tiers for tiers in rankings if len(tiers) == 4]
    assert sum(math.exp(-plackett_luce(worths, tiers).item()) for tiers in strict) == pytest.approx(1)


def ordered_partitions(places: list[int]):
    """Every ranking with ties of these places."""
    if not places:
        yield []
    for bits in range(1, 2 ** len(places)):
        tier = [place for n, place in enumerate(places) if bits >> n & 1]
        for rest in ordered_partitions([place for place in places if place not in tier]):
            yield [tier, *rest]


def test_where_ties_are_left_out_a_tier_only_beats_those_below_it():
    worths = scores(1.0, 0.5, -1.0)
    loss = plackett_luce(worths, [[0, 1], [2]])
    assert loss.item() == pytest.approx(softplus(-2.0) + softplus(-1.5))
    assert plackett_luce(worths, [[0, 1, 2]]).item() == 0


def test_the_order_inside_a_tier_and_the_numbers_of_the_places_mean_nothing():
    worths, log_nu = scores(1.0, 0.5, -1.0, 0.2), torch.tensor(0.4, dtype=torch.float64)
    turned = worths[[3, 2, 1, 0]]
    for nu in (None, log_nu):
        loss = plackett_luce(worths, [[0, 3], [1], [2]], nu).item()
        assert plackett_luce(worths, [[3, 0], [1], [2]], nu).item() == pytest.approx(loss)
        assert plackett_luce(turned, [[3, 0], [2], [1]], nu).item() == pytest.approx(loss)
        assert plackett_luce(worths + 5, [[0, 3], [1], [2]], nu).item() == pytest.approx(loss)


def test_a_safety_label_is_absolute():
    loss = safety(scores(2.0, 2.0, 0.0), scores(1.0, 0.0, 0.3))
    assert loss.tolist() == pytest.approx([softplus(-2), softplus(2), LN2])


def test_the_robust_form_recovers_the_difference_behind_noisy_labels_and_the_mixture_shrinks_it():
    true, wrong = 2.0, 0.2
    clean = 1 / (1 + math.exp(-true))
    share = torch.tensor([(1 - wrong) * clean + wrong * (1 - clean)], dtype=torch.float64)  # of votes, after flips

    def fitted(**how) -> float:
        difference = scores(0.0)
        optimizer = torch.optim.LBFGS([difference], max_iter=200, line_search_fn="strong_wolfe")

        def loss():
            optimizer.zero_grad()
            value = bradley_terry(difference, torch.zeros_like(difference), share=share, **how).sum()
            value.backward()
            return value

        optimizer.step(loss)
        return difference.item()

    assert fitted(label_smoothing=wrong, robust=True) == pytest.approx(true, abs=1e-3)
    assert fitted() == pytest.approx(math.log(share.item() / (1 - share.item())), abs=1e-3)  # 1.01: noise shrinks it
    assert fitted(label_smoothing=wrong) < fitted() < true  # and cDPO shrinks it further


def test_a_constant_added_to_both_scores_changes_nothing():
    chosen, rejected = scores(0.1, 2.0, -3.0), scores(0.4, 1.0, 5.0)
    log_nu, said = torch.tensor(0.3, dtype=torch.float64), outcomes(WIN, TIE, [0.5, 0.2, 0.3])
    for loss in (bradley_terry, lambda a, b: davidson(a, b, said, log_nu)):
        assert torch.allclose(loss(chosen + 11, rejected + 11), loss(chosen, rejected), atol=1e-12)


def test_turning_a_pair_round_changes_nothing():
    first, second, log_nu = scores(0.4), scores(-1.0), torch.tensor(0.3, dtype=torch.float64)
    for robust in (False, True):
        how = {"label_smoothing": 0.1, "robust": robust}
        here = davidson(first, second, outcomes([0.6, 0.3, 0.1]), log_nu, **how)
        there = davidson(second, first, outcomes([0.3, 0.6, 0.1]), log_nu, **how)
        assert here.item() == pytest.approx(there.item())
        soft = bradley_terry(first, second, share=scores(0.6), **how)
        assert soft.item() == pytest.approx(bradley_terry(second, first, share=scores(0.4), **how).item())


def test_centering_is_the_squared_sum():
    assert centering(scores(1.0, -2.0), scores(0.5, 2.0)).tolist() == pytest.approx([2.25, 0.0])


@pytest.mark.parametrize("margin", ["none", "additive", "scaled"])
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("robust", [False, True])
def test_the_derivatives_of_the_pair_losses(margin, smoothing, robust):
    margins = torch.tensor([0.0, 1 / 3, 1.0], dtype=torch.float64)
    how = {"margins": margins, "margin": margin, "label_smoothing": smoothing, "robust": robust}
    first, second, share = scores(0.2, -1.0, 3.0), scores(0.1, 2.0, -2.0), scores(1.0, 0.6, 0.2).detach()
    said = outcomes(WIN, TIE, [0.5, 0.2, 0.3])
    assert gradcheck(lambda a, b: bradley_terry(a, b, share=share, **how), (first, second))
    log_nu = torch.tensor(-0.4, dtype=torch.float64, requires_grad=True)
    assert gradcheck(lambda a, b, c: davidson(a, b, said, c, **how), (first, second, log_nu))
    assert gradcheck(centering, (first, second))


def test_the_derivatives_of_rankings_and_safety():
    worths, log_nu = scores(0.2, -1.0, 3.0, 0.4), torch.tensor(-0.4, dtype=torch.float64, requires_grad=True)
    for tiers in ([[2], [0, 3], [1]], [[0, 1, 2, 3]], [[3], [1], [0], [2]], [[1, 2], [3]]):
        assert gradcheck(lambda s, nu, tiers=tiers: plackett_luce(s, tiers, nu), (worths, log_nu))
        assert gradcheck(lambda s, tiers=tiers: plackett_luce(s, tiers), (worths,))
    assert gradcheck(lambda c: safety(c, scores(1.0, 0.0, 0.3, 0.5).detach()), (worths,))


def test_large_differences_stay_finite():
    log_nu = torch.tensor(-0.4, dtype=torch.float64)
    for first, second in ((scores(-1e4), scores(1e4)), (scores(1e4), scores(-1e4))):
        assert torch.isfinite(bradley_terry(first, second)).all()
        assert torch.isfinite(davidson(first, second, outcomes([0.2, 0.3, 0.5]), log_nu)).all()


def test_a_weighted_mean_over_parts_is_the_mean_over_the_whole():
    losses, weights = scores(1.0, 2.0, 4.0), torch.tensor([1.0, 1.0, 0.5], dtype=torch.float64)
    assert weighted_mean(losses, weights).item() == pytest.approx(5 / 2.5)


def test_shapes_that_do_not_match_are_refused():
    with pytest.raises(ValueError, match="equal non-empty"):
        bradley_terry(scores(1.0), scores(1.0, 2.0))
    with pytest.raises(ValueError, match="no margins"):
        bradley_terry(scores(1.0), scores(2.0), margin="additive")
