"""Attention of packed texts: each sees itself alone, and a beginning that several share is computed once.

A tree is a list of token counts: those of the trunk with the first branch, those of the trunk alone, and those of each
further branch. The trees of a pass stand one after another in a single row. A model whose attention is "packed" or
"blockwise" takes them as the keyword `trees` of its forward pass; without it both are ordinary causal attention.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

BLOCK = 256  # query rows a block: later blocks alone see all keys, so a quarter or more of the products is saved


class Tree(NamedTuple):
    """Token counts. A text is the trunk and one branch; a tree of one text has no trunk of its own."""

    first: int  # of the trunk with the first branch, which stand beside each other
    trunk: int
    branches: list[int]  # of the further branches


def packed_attention(
    module: torch.nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    trees: Sequence[Tree] | None = None,
    **more: Any,
) -> tuple[Tensor, None]:
    """torch's attention, of each text alone where `trees` are given; query, key, value (B, H, T, D)."""
    if trees is None:
        return sdpa_attention_forward(module, query, key, value, attention_mask, **more)
    return attend_trees(module, query, key, value, trees, sdpa_of_branch, **more), None


def blockwise_attention(
    module: torch.nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    trees: Sequence[Tree] | None = None,
    **more: Any,
) -> tuple[Tensor, None]:
    """The same as plain products. With a mask or a cache: torch's own.

    torch's CPU flash kernel is several times slower than this in bf16 (and faster in fp32, where it stays).
    """
    if trees is not None:
        return attend_trees(module, query, key, value, trees, products_of_branch, **more), None
    if attention_mask is not None or query.shape[2] != key.shape[2]:
        return sdpa_attention_forward(module, query, key, value, attention_mask, **more)
    return products_of_branch(module, query, key, value, **more), None


def attend_trees(
    module: torch.nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    trees: Sequence[Tree],
    branch: Callable[..., Tensor],
    **more: Any,
) -> Tensor:
    """(1, T, H, D) of queries (1, H, T, D): the keys of a branch are its trunk's and its own."""
    sizes = [size for tree in trees for size in (tree.first, *tree.branches)]
    parts, found = zip(*(t.split(sizes, dim=2) for t in (query, key, value)), strict=True), []
    for tree in trees:
        q, k, v = next(parts)
        found.append(branch(module, q, k, v, **more))
        for _ in tree.branches:
            own_q, own_k, own_v = next(parts)
            keys = torch.cat([k[:, :, : tree.trunk], own_k], dim=2)
            values = torch.cat([v[:, :, : tree.trunk], own_v], dim=2)
            found.append(branch(module, own_q, keys, values, **more))
    return torch.cat(found, dim=1)


def sdpa_of_branch(module: torch.nn.Module, query: Tensor, key: Tensor, value: Tensor, **more: Any) -> Tensor:
    """(1, Q, H, D): the queries (1, H, Q, D) are the last of the keys (1, H, K, D)."""
    mask = branch_mask(query, key, more.get("sliding_window"))
    return sdpa_attention_forward(module, query, key, value, mask, **more)[0]


def branch_mask(query: Tensor, key: Tensor, window: int | None) -> Tensor | None:
    """(Q, K) bool, true where a query may look; nothing where that is all that came before in a text of its own."""
    rows, columns = query.shape[2], key.shape[2]
    narrow = window is not None and window < columns
    if rows == columns and not narrow:
        return None
    seen = torch.ones(rows, columns, dtype=torch.bool, device=query.device).tril(columns - rows)
    return seen.triu(columns - rows - window + 1) if narrow else seen


def products_of_branch(
    module: torch.nn.Module, query: Tensor, key: Tensor, value: Tensor, scaling: float | None = None, **more: Any
) -> Tensor:
    """`sdpa_of_branch` as plain products."""
    window = more.get("sliding_window")
    if window is not None and window < key.shape[2]:
        return sdpa_of_branch(module, query, key, value, scaling=scaling, **more)
    groups = query.shape[1] // key.shape[1]
    key, value = key.repeat_interleave(groups, 1), value.repeat_interleave(groups, 1)
    query = query * (scaling or query.shape[-1] ** -0.5)
    length = query.shape[2]
    blocks = [_block(query, key, value, i, min(i + BLOCK, length)) for i in range(0, length, BLOCK)]
    return torch.cat(blocks, dim=2).transpose(1, 2).contiguous()


def _block(query: Tensor, key: Tensor, value: Tensor, start: int, end: int) -> Tensor:
    before = key.shape[2] - query.shape[2]
    scores = query[:, :, start:end] @ key[:, :, : before + end].transpose(-1, -2)  # (B, H, end - start, before + end)
    future = torch.full(scores.shape[-2:], float("-inf"), dtype=scores.dtype, device=scores.device)
    return torch.softmax(scores + future.triu(1 + before + start), dim=-1) @ value[:, :, : before + end]


def blockwise_mask(
    *,
    kv_length: int,
    attention_mask: Tensor | None = None,
    local_size: int | None = None,
    allow_is_causal_skip: bool = True,
    **more: Any,
) -> Tensor | None:
    """None for rows without padding, also while torch.compile traces (where sdpa_mask always makes one).

    Packed rows, which transformers finds by their positions, and windows shorter than the row need their mask.
    """
    causal = allow_is_causal_skip or torch.compiler.is_compiling()
    if attention_mask is None and causal and (local_size is None or kv_length <= local_size):
        return None
    given = {"kv_length": kv_length, "attention_mask": attention_mask, "local_size": local_size}
    return sdpa_mask(**given, allow_is_causal_skip=allow_is_causal_skip, **more)


AttentionInterface.register("packed", packed_attention)
AttentionMaskInterface.register("packed", sdpa_mask)
AttentionInterface.register("blockwise", blockwise_attention)
AttentionMaskInterface.register("blockwise", blockwise_mask)
