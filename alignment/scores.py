"""Scores of a reward model: one number a text, read at its end token."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from alignment.batches import mask_of, micro_batches, pad
from alignment.logprob import hidden_states
from alignment.model import score_head
from alignment.text import Messages, encode_completion, encode_prompt, truncate

MICRO_TOKENS = 16384  # padded tokens held with their graph
PASS_TOKENS = 2048  # padded tokens of one pass, where units of different lengths share a step

Unit = tuple[
    list[int], list[int]
]  # two texts scored together: chosen and rejected, or a text and its counterfactual


def end_scores(model: PreTrainedModel, ids: Tensor, mask: Tensor) -> Tensor:
    """Scores (B,) in fp32 of right-padded rows (B, T), read at each row's last real token."""
    last = mask.sum(dim=1) - 1  # from lengths: the prompt may hold the pad token
    hidden = hidden_states(model, ids)[torch.arange(len(ids), device=ids.device), last]
    return score_head(model)(hidden).squeeze(-1).float()


def unit_scores(model: PreTrainedModel, units: Sequence[Unit], pad_id: int) -> Tensor:
    """Scores (U, 2) of U units, both texts of a unit in one forward pass."""
    rows = [unit[0] for unit in units] + [unit[1] for unit in units]
    ids, mask = pad(rows, pad_id).to(model.device), mask_of(rows).to(model.device)
    return end_scores(model, ids, mask).view(2, -1).T


def kept_scores(model: PreTrainedModel, units: Sequence[Unit], pad_id: int) -> Tensor:
    """Scores (U, 2) with their graph, in passes over units of like length.

    One pass would pad every template to the longest argument: half of the mitigated arm's work was padding.
    """
    groups = micro_batches([2 * max(map(len, unit)) for unit in units], range(len(units)), PASS_TOKENS)
    scores = torch.cat([unit_scores(model, [units[i] for i in group], pad_id) for group in groups])
    order = torch.tensor([i for group in groups for i in group], device=scores.device)
    return scores[order.argsort()]


def backward(
    model: PreTrainedModel,
    units: Sequence[Unit],
    pad_id: int,
    objective: Callable[[Tensor], Tensor],
    tokens: int,
) -> Tensor:
    """Add the gradient of objective(scores (U, 2)) to the parameters and return the scores, detached.

    The gradient does not depend on how the units are cut into passes of at most `tokens` padded tokens: with more than
    one pass, the scores come first without a graph, and each pass then receives its share of the objective's gradient.
    Source: Gao et al. 2021, arXiv:2101.06983.
    """
    groups = micro_batches([2 * max(map(len, unit)) for unit in units], range(len(units)), tokens)
    if len(groups) == 1:
        scores = kept_scores(model, units, pad_id)
        objective(scores).backward()
        return scores.detach()
    leaf = scores_of(model, units, pad_id, tokens).requires_grad_()
    objective(leaf).backward()
    for group in groups:
        unit_scores(model, [units[i] for i in group], pad_id).backward(leaf.grad[group])
    return leaf.detach()


@torch.no_grad()
def scores_of(
    model: PreTrainedModel, units: Sequence[Unit], pad_id: int, tokens: int = MICRO_TOKENS
) -> Tensor:
    """Scores (U, 2) without a graph."""
    scores = torch.zeros(len(units), 2, device=model.device)
    for group in micro_batches([2 * max(map(len, unit)) for unit in units], range(len(units)), tokens):
        scores[group] = unit_scores(model, [units[i] for i in group], pad_id)
    return scores


def encode_text_row(
    tokenizer: PreTrainedTokenizerBase, prompt: Messages, text: str, max_length: int
) -> list[int]:
    """Ids of prompt and completion within max_length, ready to be scored: the last is the end token, cut or not."""
    head, answer = encode_prompt(tokenizer, prompt), encode_completion(tokenizer, prompt, text)
    head, answer = truncate(head, answer, max_length)
    return [*head, *answer[:-1], tokenizer.eos_token_id]


@torch.no_grad()
def row_scores(model: PreTrainedModel, rows: Sequence[list[int]], pad_id: int) -> list[float]:
    """The scores of rows of ids that fit one forward pass."""
    return end_scores(model, pad(rows, pad_id).to(model.device), mask_of(rows).to(model.device)).tolist()
