"""Texts in one forward pass without padding; what several begin with alike passes through the model once.

The two completions of a pair, and all completions of a prompt in a rollout, share their prompt, which is much of the
work. The hidden states are those of each text alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple
from weakref import WeakKeyDictionary

import torch
from torch import Tensor
from transformers import PreTrainedModel

from alignment.models.attention import Tree
from alignment.models.checkpoints import evaluating

FEWEST_SHARED = 8  # tokens: a branch costs an attention call of its own


class Packed(NamedTuple):
    """B texts as S tokens in one row."""

    ids: list[int]  # S
    positions: list[int]  # S
    trees: list[Tree]
    places: list[list[int]]  # of each text's tokens among the S


def text_states(model: PreTrainedModel, ids: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
    """(states, places) of B right-padded texts: states (S, D) are last hidden states, places (B, T) say where the state
    of token t of text b stands among them (0 at padding).

    Args:
        ids, mask: (B, T), mask true on real tokens.

    A model that lets packed texts see each other, or does not take them, gets one text a pass.
    """
    texts = [row[:length] for row, length in zip(ids.tolist(), mask.sum(1).tolist(), strict=True)]
    groups = [range(len(texts))] if keeps_texts_apart(model) else [[number] for number in range(len(texts))]
    states, found, done = [], [[]] * len(texts), 0
    for group in groups:
        packed = pack([texts[number] for number in group])
        states.append(packed_states(model, packed))
        for number, places in zip(group, packed.places, strict=True):
            found[number] = [done + place for place in places]
        done += len(packed.ids)
    width = ids.shape[1]
    places = torch.tensor([[*row, *[0] * (width - len(row))] for row in found], device=ids.device)
    return torch.cat(states), places


def packed_states(model: PreTrainedModel, packed: Packed) -> Tensor:
    """(S, D) last hidden states."""
    ids, positions = (torch.tensor([row], device=model.device) for row in (packed.ids, packed.positions))
    if len(packed.trees) == 1 and not packed.trees[0].branches:  # one text, for every kind of model
        return model.base_model(input_ids=ids, use_cache=False).last_hidden_state[0]
    if model.config._attn_implementation not in {"packed", "blockwise"}:
        model.set_attn_implementation("packed")
    unused = torch.ones(1, 1, 1, 1, dtype=torch.bool, device=model.device)  # of 4 dimensions: no model makes another
    how = {"attention_mask": unused, "position_ids": positions, "trees": packed.trees, "use_cache": False}
    return model.base_model(input_ids=ids, **how).last_hidden_state[0]


def pack(texts: Sequence[list[int]]) -> Packed:
    ids, positions, trees, places = [], [], [], [[]] * len(texts)
    for trunk, members in families(texts):
        shared = list(range(len(ids), len(ids) + trunk))
        first, *others = members
        for number in members:
            own = texts[number] if number == first else texts[number][trunk:]
            start = 0 if number == first else trunk
            at = range(len(ids), len(ids) + len(own))
            places[number] = [*at] if number == first else [*shared, *at]
            ids += own
            positions += range(start, start + len(own))
        branches = [len(texts[number]) - trunk for number in others]
        trees.append(Tree(len(texts[first]), trunk, [size for size in branches if size]))
    return Packed(ids, positions, trees, places)


def families(texts: Sequence[list[int]]) -> list[tuple[int, list[int]]]:
    """(tokens that they share, numbers of the texts), so that texts which begin alike are together.

    Texts are met in the order of their tokens, where those that begin alike are neighbours; one joins where more is
    shared then than without it.
    """
    found: list[tuple[int, list[int]]] = []
    for number in sorted(range(len(texts)), key=texts.__getitem__):
        trunk, members = found[-1] if found else (0, [])
        shared = min(trunk, common_tokens(texts[members[-1]], texts[number])) if members else 0
        if shared >= FEWEST_SHARED and shared * len(members) > trunk * (len(members) - 1):
            found[-1] = (shared, [*members, number])
        else:
            found.append((len(texts[number]), [number]))
    return found


def common_tokens(first: list[int], second: list[int]) -> int:
    """How many tokens both begin with."""
    pairs = zip(first, second, strict=False)
    return next((n for n, (a, b) in enumerate(pairs) if a != b), min(len(first), len(second)))


_known: WeakKeyDictionary[PreTrainedModel, bool] = WeakKeyDictionary()


def keeps_texts_apart(model: PreTrainedModel) -> bool:
    """Whether packed texts have the states that each has alone: not where a layer knows no attention, or its own.

    Asked once a model, of three short texts.
    """
    if model not in _known:
        _known[model] = _probe(model)
    return _known[model]


@torch.no_grad()
def _probe(model: PreTrainedModel) -> bool:
    beginning, device = list(range(1, 1 + FEWEST_SHARED)), model.device
    texts = [[*beginning, 3, 1, 2], [*beginning, 5, 2], [4, 2, 6, 1]]
    packed = pack(texts)
    with evaluating(model):
        try:
            states = packed_states(model, packed)
        except (TypeError, ValueError, RuntimeError):  # a forward pass that knows no `trees`, or none of these shapes
            return False
        alone = [packed_states(model, pack([text])) for text in texts]
    rounding = 5e-2 if torch.is_autocast_enabled(device.type) else 1e-3
    pairs = zip(packed.places, alone, strict=True)
    return all(torch.allclose(states[at], one, atol=rounding, rtol=rounding) for at, one in pairs)
