"""From logits to the next token of each row, every row by its own settings and its own random numbers."""

import torch
from torch import Tensor

from labelapp.serving.rows import Row


def choose(logits: Tensor, rows: list[Row], generators: list[torch.Generator]) -> Tensor:
    """The next token of every row; shape (B,), int64.

    Args:
        logits: shape (B, V), float32, unscaled.
        rows: B rows in the same order.
        generators: one a row; a row that is not greedy draws one number from its own.
    """
    logits = penalised(logits, rows)
    chosen = logits.argmax(-1)
    drawing = [place for place, row in enumerate(rows) if row.sampling["temperature"] > 0]
    if drawing:
        chosen[drawing] = draw(logits[drawing], [rows[p] for p in drawing], [generators[p] for p in drawing])
    return chosen


def draw(logits: Tensor, rows: list[Row], generators: list[torch.Generator]) -> Tensor:
    """One token a row by inverting the cumulative distribution at the row's uniform number; shape (B,), int64."""
    temperature = torch.tensor([row.sampling["temperature"] for row in rows], device=logits.device)
    probabilities = (logits.double() / temperature[:, None].clamp(min=1e-5)).softmax(-1)  # (B, V)
    for place, row in enumerate(rows):
        if cuts_off(row.sampling):
            probabilities[place] = kept(probabilities[place], row.sampling)
    below = probabilities.cumsum(-1)
    uniform = torch.stack([torch.rand((), generator=generator, dtype=torch.float64) for generator in generators])
    picked = torch.searchsorted(below, uniform.to(below)[:, None] * below[:, -1:], right=True).squeeze(-1)
    return picked.clamp(max=logits.shape[-1] - 1)


def cuts_off(sampling: dict) -> bool:
    return sampling["top_k"] > 0 or sampling["top_p"] < 1 or sampling["min_p"] > 0


def kept(probabilities: Tensor, sampling: dict) -> Tensor:
    """The distribution with everything outside top_k, top_p and min_p at zero; not normalised again. Shape (V,)."""
    top_k, top_p, min_p = sampling["top_k"], sampling["top_p"], sampling["min_p"]
    if 0 < top_k < len(probabilities):
        probabilities = probabilities.where(probabilities >= probabilities.topk(top_k).values[-1], 0)
    if top_p < 1:
        falling, order = probabilities.sort(descending=True, stable=True)
        before = falling.cumsum(-1) - falling  # the token that crosses top_p stays, so one always does
        outside = before >= top_p * falling.sum()
        outside[0] = False
        probabilities = probabilities.index_fill(0, order[outside], 0)
    if min_p > 0:
        probabilities = probabilities.where(probabilities >= min_p * probabilities.max(), 0)
    return probabilities


def penalised(logits: Tensor, rows: list[Row]) -> Tensor:
    """Logits (B, V) after each row's penalties and biases; the argument itself stays as it is."""
    touched = [place for place, row in enumerate(rows) if changes_logits(row.sampling)]
    if not touched:
        return logits
    logits = logits.clone()
    for place in touched:
        logits[place] = penalise(logits[place], rows[place])
    return logits


def changes_logits(sampling: dict) -> bool:
    return bool(
        sampling["presence_penalty"] or sampling["frequency_penalty"] or sampling["logit_bias"]
    ) or sampling["repetition_penalty"] != 1


def penalise(logits: Tensor, row: Row) -> Tensor:
    """Repetition divides (prompt and answer, Keskar et al. 2019), presence and frequency subtract (answer only)."""
    sampling = row.sampling
    if (factor := sampling["repetition_penalty"]) != 1:
        seen = torch.tensor(sorted({*row.prompt, *row.ids}), device=logits.device)
        values = logits[seen]
        logits[seen] = torch.where(values > 0, values / factor, values * factor)
    if row.counts:
        tokens = torch.tensor(list(row.counts), device=logits.device)
        counts = torch.tensor(list(row.counts.values()), device=logits.device, dtype=logits.dtype)
        logits[tokens] -= sampling["presence_penalty"] + sampling["frequency_penalty"] * counts
    for token, bias in (sampling["logit_bias"] or {}).items():
        if int(token) < len(logits):
            logits[int(token)] += bias
    return logits
