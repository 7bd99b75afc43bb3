"""Packed texts, with their beginnings shared, are the same training as each text alone."""

import random

import pytest
import torch

from alignment.config import Lora
from alignment.data.batches import mask_of, pad
from alignment.models import attention, packing
from alignment.models.adapters import attach
from alignment.models.checkpoints import load_policy
from alignment.models.frozen import hold_in_bf16
from alignment.models.packing import (
    FEWEST_SHARED,
    families,
    keeps_texts_apart,
    pack,
    packed_states,
    text_states,
)
from alignment.models.precision import autocast
from alignment.sft import Dialogue, accumulate
from tests.alignment.architectures import CONFIGS, write_model


def texts_of(groups=4, each=3, longest=60):
    """Texts that begin alike in groups, with a repeated one and one that is another's beginning, in any order."""
    draw, made = random.Random(0), []
    for _ in range(groups):
        prompt = [draw.randrange(5, 300) for _ in range(draw.randrange(FEWEST_SHARED + 1, longest))]
        made += [prompt + [draw.randrange(5, 300) for _ in range(draw.randrange(1, 40))] for _ in range(each)]
    made += [made[0], made[1][: FEWEST_SHARED + 1]]
    draw.shuffle(made)
    return made


@pytest.fixture(scope="module", params=list(CONFIGS))
def model(request, tmp_path_factory):
    made = load_policy(write_model(request.param, tmp_path_factory.mktemp(request.param) / "model"))
    with torch.no_grad():  # small random weights attend to everything alike: a leak would hide below the tolerance
        for matrix in (p for p in made.parameters() if p.ndim > 1):
            matrix *= 4
    return made


def states_alone(model, text):
    return model.base_model(input_ids=torch.tensor([text])).last_hidden_state[0]


def gradients(model, total):
    model.zero_grad()
    total.backward()
    return torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None])


@pytest.mark.parametrize("kind", ["packed", "blockwise"])
def test_states_and_gradients_are_those_of_each_text_alone(model, kind):
    texts = texts_of()
    model.set_attn_implementation(kind)
    assert keeps_texts_apart(model)
    states, places = text_states(model, pad(texts, 0), mask_of(texts))
    assert len(states) < sum(map(len, texts))  # something is shared
    weight = torch.randn(states.shape[1], generator=torch.Generator().manual_seed(0))
    found, alone = 0.0, 0.0
    for text, at in zip(texts, places, strict=True):
        mine, expected = states[at[: len(text)]], states_alone(model, text)
        assert torch.allclose(mine, expected, atol=1e-5)
        found, alone = found + (mine @ weight).sin().sum(), alone + (expected @ weight).sin().sum()
    expected = gradients(model, alone)
    assert torch.allclose(gradients(model, found), expected, atol=1e-5 * expected.abs().max().item())


def test_without_the_trees_texts_would_see_each_other(model, monkeypatch):
    """The comparison above can tell: plain causal attention over the same row fails it."""
    texts = texts_of()
    monkeypatch.setattr(attention, "attend_trees", lambda module, q, k, v, trees, branch, **more: branch(
        module, q, k, v, **more))  # fmt: skip
    packed = pack(texts)
    states = packed_states(model, packed)
    differences = [(states[at] - states_alone(model, text)).abs().max().item()
                   for at, text in zip(packed.places, texts, strict=True)]  # fmt: skip
    assert max(differences) > 1e-2


def test_a_model_that_mixes_packed_texts_gets_one_at_a_time(tmp_path, monkeypatch):
    policy = load_policy(write_model("llama", tmp_path / "model"))
    forward = policy.model.forward
    monkeypatch.setattr(policy.model, "forward", lambda trees=None, **given: forward(**given))  # deaf to the trees
    assert not keeps_texts_apart(policy)
    texts = texts_of(groups=2)
    states, places = text_states(policy, pad(texts, 0), mask_of(texts))
    assert len(states) == sum(map(len, texts))
    for text, at in zip(texts, places, strict=True):
        assert torch.allclose(states[at[: len(text)]], states_alone(policy, text), atol=1e-5)


def test_texts_that_begin_alike_are_families():
    prompt, other = list(range(10, 30)), list(range(40, 60))
    texts = [[*prompt, 1], [*other, 2], [*prompt, 3, 4], [*other, 5], [7] * 30, [*prompt, 6]]
    assert sorted(families(texts)) == [(20, [0, 2, 5]), (20, [1, 3]), (30, [4])]
    packed = pack(texts)
    assert len(packed.ids) == 20 + 1 + 2 + 1 + 20 + 1 + 1 + 30
    for text, at in zip(texts, packed.places, strict=True):
        assert [packed.ids[i] for i in at] == text and [packed.positions[i] for i in at] == [*range(len(text))]


def test_a_common_opening_of_all_texts_does_not_break_up_the_pairs():
    opening = list(range(5, 5 + FEWEST_SHARED))
    pairs = [[*opening, *range(100 * n, 100 * n + 20), side] for n in (1, 2) for side in (3, 4)]
    assert sorted(families(pairs)) == [(FEWEST_SHARED + 20, [0, 1]), (FEWEST_SHARED + 20, [2, 3])]
    assert packing.common_tokens([1, 2, 3], [1, 2]) == 2


def dialogues(count=9):
    draw = random.Random(0)
    made = []
    for _ in range(count):
        ids = [draw.randrange(5, 300) for _ in range(draw.randrange(4, 40))]
        made.append(Dialogue(ids, [draw.randrange(2) for _ in ids]))
    return made


def step_of(model, given, micro_tokens=10**6):
    model.zero_grad()
    loss = accumulate(model, given, 0, micro_tokens=micro_tokens)
    return loss, torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None])


@pytest.mark.parametrize("adapter", [False, True])
def test_how_dialogues_are_laid_out_changes_neither_loss_nor_gradients(model, adapter):
    given = dialogues()
    if adapter:
        attach(model, Lora(rank=2), seed=0)
    loss, gradient = step_of(model, given, micro_tokens=1)  # one at a time
    scale = gradient.abs().max().item()
    for found, again in (step_of(model, given), step_of(model, given, 64), step_of(model, given[::-1], 64)):
        assert found == pytest.approx(loss, abs=1e-5)
        assert torch.allclose(again, gradient, atol=1e-5 * scale)


def test_an_adapter_over_frozen_bf16_weights_packs_too(tmp_path):
    policy = load_policy(write_model("llama", tmp_path / "model"))
    attach(policy, Lora(rank=2), seed=0)
    hold_in_bf16(policy)
    texts = texts_of(groups=2)
    with autocast("bf16"):
        states, _ = text_states(policy, pad(texts, 0), mask_of(texts))
    assert len(states) < sum(map(len, texts))
