"""Scores of a reward model: one number a text and head, read at the text's end token."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from alignment.batches import mask_of, pad
from alignment.logprob import hidden_states
from alignment.model import score_head
from alignment.text import Messages, encode_completion, encode_prompt, truncate

MICRO_TOKENS = 16384  # padded tokens held with their graph
PASS_TOKENS = 2048  # padded tokens of one pass, where units of different lengths share a step

Unit = Sequence[list[int]]  # texts scored in one pass: those of a comparison, or a text and its counterfactual


def end_scores(model: PreTrainedModel, ids: Tensor, mask: Tensor) -> Tensor:
    """Scores (B, H) in fp32 of right-padded rows (B, T) under H heads, read at each row's last real token."""
    last = mask.sum(dim=1) - 1  # from lengths: the prompt may hold the pad token
    hidden = hidden_states(model, ids)[torch.arange(len(ids), device=ids.device), last]
    return score_head(model)(hidden).float()


def unit_scores(model: PreTrainedModel, units: Sequence[Unit], pad_id: int) -> Tensor:
    """Scores (R, H) of the R texts of the units, in their order, all in one forward pass."""
    rows = [text for unit in units for text in unit]
    return end_scores(model, pad(rows, pad_id).to(model.device), mask_of(rows).to(model.device))


def passes(units: Sequence[Unit], tokens: int) -> list[list[int]]:
    """The units in groups of like length, each of at most `tokens` padded tokens (one unit may exceed them)."""
    width, groups, texts = [max(map(len, unit)) for unit in units], [], 0
    for number in sorted(range(len(units)), key=lambda n: width[n]):
        texts += len(units[number])
        if groups and width[number] * texts <= tokens:
            groups[-1].append(number)
        else:
            groups.append([number])
            texts = len(units[number])
    return groups


def text_order(units: Sequence[Unit], groups: Sequence[Sequence[int]]) -> Tensor:
    """Where the texts of the groups, one group after the other, stand among the texts of the units in their order."""
    starts = [0]
    for unit in units:
        starts.append(starts[-1] + len(unit))
    return torch.tensor([place for group in groups for n in group for place in range(starts[n], starts[n + 1])])


def kept_scores(model: PreTrainedModel, units: Sequence[Unit], pad_id: int) -> Tensor:
    """Scores (R, H) with their graph, in passes over units of like length.

    One pass would pad every template to the longest argument: half of the mitigated arm's work was padding.
    """
    groups = passes(units, PASS_TOKENS)
    scores = torch.cat([unit_scores(model, [units[n] for n in group], pad_id) for group in groups])
    return scores[text_order(units, groups).argsort().to(scores.device)]


def backward(
    model: PreTrainedModel,
    units: Sequence[Unit],
    pad_id: int,
    objective: Callable[[Tensor], Tensor],
    tokens: int,
) -> Tensor:
    """Add the gradient of objective(scores (R, H)) to the parameters and return the scores, detached.

    The gradient does not depend on how the units are cut into passes of at most `tokens` padded tokens: with more than
    one pass, the scores come first without a graph, and each pass then receives its share of the objective's gradient.
    Source: Gao et al. 2021, arXiv:2101.06983.
    """
    groups = passes(units, tokens)
    if len(groups) == 1:
        scores = kept_scores(model, units, pad_id)
        objective(scores).backward()
        return scores.detach()
    leaf = scores_of(model, units, pad_id, tokens).requires_grad_()
    objective(leaf).backward()
    for group in groups:
        share = leaf.grad[text_order(units, [group]).to(leaf.device)]
        unit_scores(model, [units[n] for n in group], pad_id).backward(share)
    return leaf.detach()


@torch.no_grad()
def scores_of(
    model: PreTrainedModel, units: Sequence[Unit], pad_id: int, tokens: int = MICRO_TOKENS
) -> Tensor:
    """Scores (R, H) of the R texts of the units, in their order, without a graph."""
    groups = passes(units, tokens)
    scores = torch.cat([unit_scores(model, [units[n] for n in group], pad_id) for group in groups])
    return scores[text_order(units, groups).argsort().to(scores.device)]


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
    return unit_scores(model, [rows], pad_id)[:, 0].tolist()
