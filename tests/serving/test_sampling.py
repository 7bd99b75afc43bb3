"""Each row is sampled by its own settings; the expected numbers are worked out by hand."""

from dataclasses import asdict

import pytest
import torch

from labelapp.serving.protocol import Sampling
from labelapp.serving.rows import Row, TextFlow
from labelapp.serving.sampling import choose, kept, penalise

SHARES = torch.tensor([0.5, 0.3, 0.15, 0.05])


def row(prompt=(0,), ids=(), **settings) -> Row:
    made = Row(0, list(prompt), asdict(Sampling(**settings)), 9, None, lambda event: None, TextFlow(str, ()))
    for token in ids:
        made.ids.append(token)
        made.counts[token] += 1
    return made


def generator(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize(
    ("settings", "left"),
    [
        ({}, [0.5, 0.3, 0.15, 0.05]),
        ({"top_k": 2}, [0.5, 0.3, 0, 0]),
        ({"top_p": 0.7}, [0.5, 0.3, 0, 0]),  # 0.5 does not reach 0.7, 0.8 does
        ({"top_p": 0.0}, [0.5, 0, 0, 0]),
        ({"min_p": 0.25}, [0.5, 0.3, 0.15, 0]),  # a quarter of 0.5 is 0.125
        ({"top_k": 3, "top_p": 0.5}, [0.5, 0, 0, 0]),
    ],
)
def test_what_is_cut_off_is_gone_and_the_rest_is_as_it_was(settings, left):
    assert kept(SHARES, asdict(Sampling(**settings))).tolist() == pytest.approx(left)


def test_repetition_presence_and_frequency_follow_their_formulas():
    logits = torch.tensor([2.0, -2.0, 1.0, 0.0])
    made = row(prompt=[0, 1], ids=[2, 2], repetition_penalty=2.0, presence_penalty=0.5, frequency_penalty=0.25)

    # 2/2, -2*2, then 1/2 - 0.5 - 2*0.25
    assert penalise(logits.clone(), made).tolist() == pytest.approx([1.0, -4.0, -0.5, 0.0])


def test_a_bias_moves_the_greedy_choice():
    greedy = {"temperature": 0.0}
    rows = [row(**greedy), row(logit_bias={"3": 100}, **greedy)]

    assert choose(SHARES.log().repeat(2, 1), rows, [generator(0)] * 2).tolist() == [0, 3]


def test_draws_follow_the_distribution_and_their_own_seed():
    logits = SHARES.log().repeat(4000, 1)
    rows = [row() for _ in range(4000)]
    drawn = choose(logits, rows, [generator(seed) for seed in range(4000)])

    shares = torch.bincount(drawn, minlength=4) / 4000
    assert shares.tolist() == pytest.approx(SHARES.tolist(), abs=0.035)  # 4.4 standard errors at 0.5
    alone = choose(logits[:1], rows[:1], [generator(17)])
    assert alone.item() == drawn[17]
