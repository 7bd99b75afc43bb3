"""Each mitigation term against a value computed by hand, and on data with a planted bias: the bias goes, the signal
stays.

The planted data are features of answers, and the reward model is linear in them, so that nothing but the term is
tested. What an annotator's vote follows is in the data's own lines.
"""

import math

import pytest
import torch
from torch import Tensor
from torch.autograd import gradcheck

from alignment.losses.mitigation import (
    correlation,
    group_means,
    group_row_weights,
    head_overlap,
    length_penalty,
    length_split,
    noisy_bradley_terry,
    raised_group_weights,
)
from alignment.losses.pairwise import weighted_mean
from alignment.losses.reward import bradley_terry
from alignment.mitigation.annotators import Annotators, Votes, accuracies_of, first_wins
from alignment.mitigation.groups import GroupWeights, balanced_weights, effective_count

N = 1000


def vector(*values: float) -> Tensor:
    return torch.tensor(values, dtype=torch.float64, requires_grad=True)


def minimise(objective, *parameters: Tensor, steps: int = 200, rate: float = 0.1) -> None:
    """Adam with a rate that falls to 0: a term with a kink at its least value is met there, and not around it."""
    optimizer = torch.optim.Adam(parameters, lr=rate)
    for step in range(steps):
        optimizer.param_groups[0]["lr"] = rate * (1 - step / steps)
        optimizer.zero_grad()
        objective().backward()
        optimizer.step()


def zeros(*shape: int) -> Tensor:
    return torch.zeros(*shape, dtype=torch.float64, requires_grad=True)


def normal(seed: int, *shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def voted(logits: Tensor, seed: int) -> Tensor:
    """1.0 where the first answer of a pair with these logits is voted for, else -1.0."""
    draws = torch.rand(len(logits), generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return (draws < logits.sigmoid()).double() * 2 - 1


# Length


def test_the_length_penalty_is_the_squared_correlation_over_both_orders():
    r, length = vector(1, 2, -1), vector(2, 1, 1)
    # r.l = 2 + 2 - 1 = 3, r.r = 6, l.l = 6: 9 / 36
    assert length_penalty(r, length).item() == pytest.approx(0.25)
    turned = torch.tensor([1.0, -1.0, -1.0], dtype=torch.float64)
    assert length_penalty(r * turned, length * turned).item() == pytest.approx(0.25)
    both = torch.stack([torch.cat([r, -r]), torch.cat([length, -length])]).detach()
    assert length_penalty(r, length).item() == pytest.approx(torch.corrcoef(both)[0, 1].item() ** 2)


def test_equal_lengths_cost_nothing_and_have_a_gradient():
    r = vector(1, -2)
    penalty = length_penalty(r, torch.zeros(2, dtype=torch.float64))
    penalty.backward()
    assert penalty.item() == 0
    assert torch.isfinite(r.grad).all()


def planted_length() -> tuple[Tensor, Tensor]:
    """(features (N, 2) of chosen minus rejected: quality and log length). Voters want quality, and length even more."""
    features = normal(1, N, 2)
    signs = voted(2 * features[:, 0] + 3 * features[:, 1], seed=2)
    return features * signs[:, None], features


def test_length_decorrelation_takes_a_taste_for_length_away_and_leaves_the_quality():
    features, drawn = planted_length()
    found = {}
    for weight in (0.0, 3.0):
        head = zeros(2)
        minimise(
            lambda head=head, weight=weight: (
                bradley_terry(features @ head, torch.zeros(N).double()).mean()
                + weight * length_penalty(features @ head, features[:, 1])
            ),
            head,
        )
        rewards = drawn @ head.detach()
        found[weight] = abs(correlation(rewards, drawn[:, 1]).item()), correlation(rewards, drawn[:, 0]).item()
    assert found[0.0][0] > 0.8  # planted: most of the untreated reward is length
    assert found[3.0][0] < 0.1 and found[3.0][1] > 0.8


def test_the_split_of_the_heads_by_hand():
    lengths = vector(1, 2, 3)
    assert length_split(vector(2, 4, 6), vector(3, 2, 1), lengths).item() == pytest.approx(2)
    assert length_split(vector(1, -2, 1), vector(5, 6, 7), lengths).item() == pytest.approx(-1)
    assert head_overlap(vector(3, 4), vector(4, 3)).item() == pytest.approx(24 / 25)
    assert head_overlap(vector(3, 4), 100 * vector(-4, 3)).item() == pytest.approx(0)


def test_two_heads_put_length_into_the_one_that_is_thrown_away():
    """Every answer has its own length here, and the body mixes quality and length before the heads see them."""
    mixing = torch.tensor([[0.8, 0.6], [-0.6, 0.8]], dtype=torch.float64)
    first, second = normal(3, N, 2), normal(4, N, 2)
    signs = voted(2 * (first - second)[:, 0] + 3 * (first - second)[:, 1], seed=5)[:, None]
    chosen, rejected = torch.where(signs > 0, first, second), torch.where(signs > 0, second, first)
    answers = torch.cat([chosen, rejected])
    heads = (0.1 * normal(6, 2, 2)).requires_grad_()

    def objective(weight: float) -> Tensor:
        total = heads.sum(0)
        both = answers @ mixing @ heads.T
        split = length_split(both[:, 0], both[:, 1], answers[:, 1]) + head_overlap(*heads)
        return bradley_terry(chosen @ mixing @ total, rejected @ mixing @ total).mean() + weight * split

    for weight in (0.0, 1.0):  # the judgments first: a head that starts the wrong way round can be stuck there
        minimise(lambda weight=weight: objective(weight), heads, steps=150, rate=0.03)
    quality, length = (answers @ mixing @ heads.detach().T).unbind(1)
    assert abs(correlation(quality, answers[:, 1]).item()) < 0.1
    assert correlation(length, answers[:, 1]).item() > 0.9
    assert correlation(quality, answers[:, 0]).item() > 0.9
    assert head_overlap(*heads).item() < 0.1


# Groups


def test_groups_by_hand():
    losses, groups, rows = vector(1, 3, 5), torch.tensor([0, 0, 2]), torch.tensor([1.0, 3.0, 1.0]).double()
    means = group_means(losses, groups, rows, 3)
    assert means[[0, 2]].tolist() == [2.5, 5] and means[1].isnan()
    weights = group_row_weights(torch.tensor([0.5, 0.2, 0.3], dtype=torch.float64), groups, rows)
    assert weights.tolist() == [0.125, 0.375, 0.3]
    assert (weights * losses).sum().item() == pytest.approx(0.5 * 2.5 + 0.3 * 5)


def test_a_step_up_by_hand():
    equal, sizes = vector(0.5, 0.5), torch.tensor([100.0, 4.0]).double()
    raised = raised_group_weights(equal, vector(0, math.log(3)), sizes, rate=1.0, floor=0.0)
    assert raised.tolist() == pytest.approx([0.25, 0.75])
    floored = raised_group_weights(equal, vector(0, math.log(3)), sizes, rate=1.0, floor=0.5)
    assert floored.tolist() == pytest.approx([0.375, 0.625])
    # equal losses: the group of 4 rows has the larger gap, 1/2 against 1/10
    adjusted = raised_group_weights(equal, vector(1, 1), sizes, rate=1.0, adjustment=1.0, floor=0.0)
    assert (adjusted[1] / adjusted[0]).item() == pytest.approx(math.exp(0.4))


def planted_groups() -> tuple[Tensor, list[str]]:
    """Both groups want the first feature. 90 % also want the second; 10 % want its opposite, and are steadier."""
    features, groups = normal(7, N, 2), ["few" if i % 10 == 0 else "many" for i in range(N)]
    opposite = torch.tensor([-1.0 if group == "few" else 1.0 for group in groups]).double()
    return features * voted(2 * features[:, 0] + 2 * opposite * features[:, 1], seed=8)[:, None], groups


def group_losses(features: Tensor, groups: list[str], head: Tensor) -> dict[str, float]:
    losses = bradley_terry(features @ head, torch.zeros(N).double()).detach()
    return {
        name: losses[[i for i, group in enumerate(groups) if group == name]].mean().item() for name in ("few", "many")
    }


def test_group_robust_weights_lift_the_group_that_the_mean_forgets():
    features, groups = planted_groups()
    found, alike = {}, torch.ones(N).double()
    for robust in (False, True):
        head, weights = zeros(2), GroupWeights(groups, rate=0.1)

        def objective(head=head, weights=weights, robust=robust) -> Tensor:
            losses = bradley_terry(features @ head, torch.zeros(N).double())
            if not robust:
                return losses.mean()
            weights.observe(range(N), losses, alike)
            return weighted_mean(losses, weights.row_weights(range(N), alike))

        minimise(objective, head)
        found[robust] = group_losses(features, groups, head)
        assert head[0] > 0.5  # what both want is learned either way
    assert found[False]["few"] > 0.8 > 0.6 > max(found[True].values())
    assert weights.weights[weights.names.index("few")] > 0.3


def test_a_rare_group_keeps_its_weight_in_batches_without_it():
    weights = GroupWeights(["a"] * 9 + ["b"], rate=0.5, floor=0.0)
    weights.observe([0, 9], vector(1, 1), torch.ones(2))
    for _ in range(20):
        weights.observe([1, 2, 3], vector(1, 1, 1), torch.ones(3))
    assert weights.weights.tolist() == pytest.approx([0.5, 0.5])


def test_group_weights_go_on_from_their_state():
    straight, resumed = (GroupWeights(["a", "b", "b"], rate=0.3) for _ in range(2))
    straight.observe([0, 1], vector(2, 1), torch.ones(2))
    resumed.load_state_dict(straight.state_dict())
    for weights in (straight, resumed):
        weights.observe([0, 2], vector(1, 3), torch.ones(2))
    assert straight.weights.tolist() == resumed.weights.tolist()


def test_balanced_weights_by_hand():
    assert balanced_weights(["a", "a", "a", "b"]) == pytest.approx([2 / 3, 2 / 3, 2 / 3, 2])
    assert balanced_weights(["a"] * 99 + ["b"])[-1] == 5  # not 50
    assert balanced_weights(["a", "b"], {"a": 0.9, "b": 0.1}) == pytest.approx([1.8, 0.2])
    assert effective_count([1, 1, 1]) == 3
    assert effective_count([3, 1]) == pytest.approx(1.6)


# Annotators


def test_a_vote_by_hand():
    # sigmoid(ln 3) = 0.75: 0.9 * 0.75 + 0.1 * 0.25 = 0.7, and 0.8 * 0.75 + 0.2 / 2 = 0.7 in the form of a coin
    assert noisy_bradley_terry(vector(math.log(3)), vector(0.9)).item() == pytest.approx(-math.log(0.7))
    differences = vector(0.3, -2.0)
    certain = noisy_bradley_terry(differences, torch.ones(2).double())
    assert certain.tolist() == pytest.approx(bradley_terry(differences, torch.zeros(2).double()).tolist())
    assert noisy_bradley_terry(differences, torch.full((2,), 0.5).double()).tolist() == pytest.approx([math.log(2)] * 2)


def test_what_votes_say_of_pairs_and_pairs_of_annotators_by_hand():
    votes = Votes(torch.tensor([0, 0, 1]), torch.tensor([0, 1, 0]), torch.tensor([1.0, -1.0, 1.0]).double(), 2)
    accuracies = torch.tensor([0.9, 0.75]).double()  # odds 9 and 3
    first = first_wins(torch.tensor([0.0, math.log(2)]).double(), votes, accuracies)
    assert first.tolist() == pytest.approx([3 / 4, 18 / 19])
    found = accuracies_of(torch.tensor([0.75, 1.0]).double(), votes, 3)
    assert found.tolist() == pytest.approx([(1.75 + 7) / 11, (0.25 + 7) / 10, 7 / 9])


def test_nobody_is_turned_around_and_nobody_trusted_blindly():
    many = Votes(torch.arange(400), torch.arange(400) % 2, torch.ones(400).double(), 400)
    assert accuracies_of(1 - (torch.arange(400) % 2).double(), many, 2).tolist() == [0.98, 0.5]


def planted_votes() -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """(differences (N, 2) of first minus second, pairs, annotators, signs (V,)): two annotators of six throw coins."""
    features, steady = normal(9, N, 2), 4
    pairs, annotators = torch.arange(N).repeat_interleave(3), torch.randint(
        6, (3 * N,), generator=torch.Generator().manual_seed(10)
    )  # fmt: skip
    wanted = 4 * features[pairs, 0]
    always_second = torch.full_like(wanted, -20.0)  # the first coin's favourite side
    logits = torch.where(annotators < steady, wanted, torch.where(annotators == 4, always_second, 0.0))
    return features, pairs, annotators, voted(logits, seed=11)


def test_careless_annotators_are_found_and_their_votes_pull_less():
    features, pairs, annotators, signs = planted_votes()
    noise, found = Annotators(Votes(pairs, annotators, signs, N), 6), {}
    for aware in (False, True):
        head = zeros(2)

        def objective(head=head, aware=aware) -> Tensor:
            differences = features @ head
            noise.observe(torch.arange(N), differences)
            accuracies = noise.accuracies[annotators] if aware else torch.ones(len(signs)).double()
            return noisy_bradley_terry(differences[pairs] * signs, accuracies).mean()

        minimise(objective, head)
        found[aware] = head.detach()
    assert noise.accuracies[:4].min() > 0.8 > 0.6 > noise.accuracies[4:].max()
    # the planted strength is 4; coins among the votes flatten it where nothing is known of annotators
    assert abs(found[True][0] - 4) < 1 < 2 < abs(found[False][0] - 4)
    assert abs(found[True][1]) < 0.4


def test_annotators_go_on_from_their_state():
    votes = Votes(torch.tensor([0, 1, 1]), torch.tensor([0, 1, 0]), torch.tensor([1.0, -1.0, 1.0]).double(), 2)
    straight, resumed = Annotators(votes, 2), Annotators(votes, 2)
    straight.observe(torch.tensor([1]), torch.tensor([3.0]))
    resumed.load_state_dict(straight.state_dict())
    for annotators in (straight, resumed):
        annotators.observe(torch.tensor([0]), torch.tensor([-1.0]))
    assert straight.accuracies.tolist() == resumed.accuracies.tolist()


def test_the_derivative_of_every_term():
    a, b, c = vector(0.2, -1.0, 3.0), vector(0.1, 2.0, -2.0), vector(1.0, -0.5, 0.7)
    accuracies, groups = torch.tensor([0.6, 0.9, 1.0]).double(), torch.tensor([0, 1, 1])
    for term in (length_penalty, correlation, head_overlap):
        assert gradcheck(term, (a, b))
    assert gradcheck(lambda x, y: length_split(x, y, c.detach()), (a, b))
    assert gradcheck(lambda x: noisy_bradley_terry(x, accuracies), (a,))
    assert gradcheck(lambda x: group_means(x, groups, accuracies, 2), (a,))
