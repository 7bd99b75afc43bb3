"""Scores of a reward model: one number a text and head, read at the text's end token."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from alignment import devices
from alignment.data.batches import MICRO_TOKENS, mask_of, micro_batches, pad
from alignment.data.text import Messages, encode_completion, encode_prompt, truncate
from alignment.models.checkpoints import score_head
from alignment.models.packing import text_states
from alignment.models.precision import autocast

HELD_TOKENS = 16384  # of a step, whose graphs are all held; of a longer step every text runs twice
PASS_TOKENS = 2048  # tokens of one pass: its activations stay in a cache of the processor

Unit = Sequence[list[int]]  # texts scored in one pass: those of a comparison, or a text and its counterfactual


def end_scores(model: PreTrainedModel, ids: Tensor, mask: Tensor, precision: str = "fp32") -> Tensor:
    """Scores (B, H) in fp32 of right-padded rows (B, T) under H heads, read at each row's last real token.

    The heads' product is fp32 whatever the precision of the body: bf16 would round scores to three digits.
    """
    last = mask.sum(dim=1) - 1  # from lengths: the prompt may hold the pad token
    with autocast(precision):
        states, places = text_states(model, ids, mask)
    return score_head(model)(states.index_select(0, places.gather(1, last[:, None])[:, 0]).float())


def unit_scores(model: PreTrainedModel, units: Sequence[Unit], pad_id: int, precision: str = "fp32") -> Tensor:
    """Scores (R, H) of the R texts of the units, in their order, all in one forward pass."""
    rows = [text for unit in units for text in unit]
    return end_scores(model, pad(rows, pad_id).to(model.device), mask_of(rows).to(model.device), precision)


def passes(units: Sequence[Unit], tokens: int) -> list[list[int]]:
    """The units in groups of at most `tokens` tokens (one unit may exceed them)."""
    return micro_batches([sum(map(len, unit)) for unit in units], range(len(units)), tokens)


def text_order(units: Sequence[Unit], groups: Sequence[Sequence[int]]) -> Tensor:
    """Where the texts of the groups, one group after the other, stand among the texts of the units in their order."""
    starts = [0]
    for unit in units:
        starts.append(starts[-1] + len(unit))
    return torch.tensor([place for group in groups for n in group for place in range(starts[n], starts[n + 1])])


def in_order(parts: Sequence[Tensor], units: Sequence[Unit], groups: Sequence[Sequence[int]]) -> Tensor:
    """The scores of the groups put back into the order of the units."""
    scores = torch.cat(list(parts))
    return scores[text_order(units, groups).argsort().to(scores.device)]


def backward(
    model: PreTrainedModel,
    units: Sequence[Unit],
    pad_id: int,
    objective: Callable[[Tensor], Tensor],
    tokens: int = HELD_TOKENS,
    precision: str = "fp32",
) -> Tensor:
    """Add the gradient of objective(scores (R, H)) to the parameters and return the scores, detached.

    The gradient does not depend on how the units are cut into passes. Up to `tokens` tokens all graphs are held. With
    more, the scores come first without a graph, and each pass then runs again, with the dropout it had, and receives
    its share of the objective's gradient. Source: Gao et al. 2021, arXiv:2101.06983.
    """
    held = len(passes(units, tokens)) == 1
    sizes = [sum(map(len, unit)) for unit in units]
    dealt = devices.deal(sizes, range(len(units)), PASS_TOKENS if held else tokens)
    parts, states = [], []
    with torch.set_grad_enabled(held):
        for group, _ in dealt:
            states.append(generator_state(model.device))
            parts.append(unit_scores(model, [units[n] for n in group], pad_id, precision))
    scores = all_scores(parts, units, dealt).requires_grad_()
    objective(scores).backward()
    shares = [scores.grad[text_order(units, [group]).to(scores.device)] * counts for group, counts in dealt]
    if held:
        torch.cat(parts).backward(torch.cat(shares))
        return scores.detach()
    for (group, _), state, share in zip(dealt, states, shares, strict=True):
        restore_generator(state, model.device)
        unit_scores(model, [units[n] for n in group], pad_id, precision).backward(share)
    return scores.detach()


def all_scores(parts: Sequence[Tensor], units: Sequence[Unit], dealt: Sequence[devices.Pass]) -> Tensor:
    """(R, H) of the passes of all ranks, in the order of the units, without a graph."""
    whole = parts[0].new_zeros(sum(map(len, units)), parts[0].shape[1])
    for part, (group, counts) in zip(parts, dealt, strict=True):
        whole[text_order(units, [group]).to(whole.device)] += part.detach() * counts
    return devices.summed(whole)


def generator_state(device: torch.device) -> list[Tensor]:
    """Where torch's generators stand: the CPU's, and the device's own."""
    return [torch.get_rng_state(), *([torch.cuda.get_rng_state(device)] if device.type == "cuda" else [])]


def restore_generator(state: list[Tensor], device: torch.device) -> None:
    torch.set_rng_state(state[0])
    if device.type == "cuda":
        torch.cuda.set_rng_state(state[1], device)


@torch.no_grad()
def scores_of(
    model: PreTrainedModel, units: Sequence[Unit], pad_id: int, tokens: int = MICRO_TOKENS
) -> Tensor:
    """Scores (R, H) of the R texts of the units, in their order, without a graph."""
    groups = passes(units, tokens)
    return in_order([unit_scores(model, [units[n] for n in group], pad_id) for group in groups], units, groups)


def encode_text_row(
    tokenizer: PreTrainedTokenizerBase, prompt: Messages, text: str, max_length: int
) -> list[int]:
    """Ids of prompt and completion within max_length, ready to be scored: the last is the end token, cut or not."""
    head, answer = encode_prompt(tokenizer, prompt), encode_completion(tokenizer, prompt, text)
    head, answer = truncate(head, answer, max_length)
    return [*head, *answer[:-1], tokenizer.eos_token_id]
