"""The door to torch: a version in memory, and its batch of rows. Only the engine's process imports this module."""

import hashlib
import time
from collections.abc import Callable
from dataclasses import asdict
from typing import Any

import torch
from torch import Tensor
from transformers import DynamicCache

from alignment.config import JobError
from alignment.manifest import ArtifactError, verify
from alignment.model import load_policy
from alignment.text import encode_prompt, encode_text, load_tokenizer
from labelapp.serving.errors import ApiError, invalid
from labelapp.serving.protocol import Sampling
from labelapp.serving.rows import Row, TextFlow
from labelapp.serving.sampling import choose

CANARY = [{"role": "user", "content": "Say what you think of canaries, and why."}]
CANARY_TOKENS = 24


class NotServable(Exception):
    """The version must not answer. The message is a sentence for a person."""


class Loaded:
    """A verified policy with its tokenizer, and the rows it is answering."""

    def __init__(self, path: str, digest: str) -> None:
        """Verify every byte, load, and pass the canary. Raises NotServable."""
        began = time.monotonic()
        try:
            verify(path, digest)
            self.model, self.tokenizer = load_policy(path), load_tokenizer(path)
        except (ArtifactError, JobError) as error:
            raise NotServable(str(error)) from error
        self.digest = digest
        self.context = int(self.model.config.max_position_embeddings)
        self.ends = end_tokens(self.model, self.tokenizer)
        self.batch = Batch(self.model)
        self.canary = canary(self)
        self.load_seconds = time.monotonic() - began

    def encode(self, prompt: dict[str, Any]) -> list[int]:
        """Ids of a prompt that is messages, text or ids. Raises ApiError 400."""
        if "ids" in prompt:
            if max(prompt["ids"]) >= self.model.config.vocab_size:
                raise invalid("prompt", f"Token ids must be below {self.model.config.vocab_size}.")
            return prompt["ids"]
        if "text" in prompt:
            # An empty text still needs a token to continue from.
            return encode_text(self.tokenizer, prompt["text"]) or [self.tokenizer.eos_token_id]
        try:
            return encode_prompt(self.tokenizer, prompt["messages"])
        except JobError as error:
            raise invalid("messages", str(error)) from error

    def room(self, prompt: list[int], asked: int | None) -> int:
        """Tokens the answer may have: what was asked, or all that is left. Raises ApiError 400 with both numbers."""
        wanted = len(prompt) + (1 if asked is None else asked)
        if wanted <= self.context:
            return self.context - len(prompt) if asked is None else asked
        detail = f"{len(prompt)} in the prompt, {wanted - len(prompt)} in the completion"
        message = f"This model's maximum context length is {self.context} tokens, but you asked for {wanted} ({detail})."
        raise ApiError(400, "context_length_exceeded", message, param="messages")

    def decode(self, ids: list[int]) -> str:
        return self.tokenizer.decode(ids, skip_special_tokens=True, clean_up_tokenization_spaces=False)

    def piece(self, token: int) -> str:
        return self.tokenizer.decode([token], clean_up_tokenization_spaces=False)

    def admit(self, rows: list[Row]) -> None:
        """Take rows with the same prompt into the batch and sample their first token."""
        cache, logits = prefill(self.model, rows[0].prompt, all_logits=wants_prompt_scores(rows))
        for row in rows:
            if row.sampling["echo"]:
                self.echo(row, logits)
        sampled = [row for row in rows if row.max_tokens > 0]
        for row in rows:
            if row.max_tokens == 0:
                row.finish("length")
        if sampled:
            self.take(logits[-1].expand(len(sampled), -1), sampled)
            self.batch.join(cache, len(rows[0].prompt), [row for row in sampled if not row.gone])

    def step(self) -> None:
        """One more token for every row; rows that ended or left make room first."""
        self.batch.drop_gone()
        if self.batch.rows:
            self.take(self.batch.forward(), self.batch.rows)
            self.batch.drop_gone()

    def abandon(self) -> None:
        """Forget every row: after a failure the batch's state means nothing."""
        self.batch = Batch(self.model)

    def take(self, logits: Tensor, rows: list[Row]) -> None:
        """Sample a token a row from logits (B, V) and hand it over."""
        if not torch.isfinite(logits).all():
            raise FloatingPointError("the model's logits are not finite")
        for row, token, scores in zip(rows, choose(logits, rows), logits, strict=True):
            is_end = token in self.ends
            wanted = row.sampling["logprobs"] is not None and not is_end
            entries = [self.entry(scores.log_softmax(-1), token, row.sampling["logprobs"])] if wanted else None
            row.take(token, is_end=is_end, logprobs=entries)

    def echo(self, row: Row, logits: Tensor) -> None:
        """Send the prompt itself, with the log-probability of each of its tokens where asked. logits: (T, V) or (1, V)."""
        entries, alternatives = None, row.sampling["logprobs"]
        if alternatives is not None:
            scores = logits[:-1].log_softmax(-1)
            entries = [{"token": self.piece(row.prompt[0]), "logprob": None, "top": []}]
            entries += [self.entry(s, t, alternatives) for s, t in zip(scores, row.prompt[1:], strict=True)]
        row.emit({"row": row.index, "text": self.decode(row.prompt), "logprobs": entries})

    def entry(self, scores: Tensor, token: int, alternatives: int) -> dict[str, Any]:
        """A token's log-probability (nats) and its strongest alternatives. scores: (V,)."""
        best = scores.topk(min(alternatives, len(scores)))
        top = [
            {"token": self.piece(t), "logprob": p}
            for t, p in zip(best.indices.tolist(), best.values.tolist(), strict=True)
        ]
        return {"token": self.piece(token), "logprob": scores[token].item(), "top": top}


def rows_for(loaded: Loaded, ask: dict[str, Any], emit: Callable[[dict[str, Any]], None]) -> list[Row]:
    """The rows of a request, n for each prompt; row i of a seeded request has seed + i. Raises ApiError 400."""
    sampling, rows = ask["sampling"], []
    for prompt in map(loaded.encode, ask["prompts"]):
        room = loaded.room(prompt, sampling["max_tokens"])
        for _ in range(ask["n"]):
            seed = None if sampling["seed"] is None else sampling["seed"] + len(rows)
            flow = TextFlow(loaded.decode, tuple(sampling["stop"]))
            rows.append(Row(len(rows), prompt, sampling, room, seed, emit, flow))
    return rows


def wants_prompt_scores(rows: list[Row]) -> bool:
    return any(row.sampling["echo"] and row.sampling["logprobs"] is not None for row in rows)


def end_tokens(model: Any, tokenizer: Any) -> set[int]:
    """Ids that end an answer: the tokenizer's end token and what the model's generation config names."""
    named = model.generation_config.eos_token_id
    return {tokenizer.eos_token_id, *(named if isinstance(named, list) else [named])} - {None}


@torch.inference_mode()
def prefill(model: Any, prompt: list[int], *, all_logits: bool) -> tuple[DynamicCache, Tensor]:
    """Read a prompt of T ids: its cache (batch 1) and logits (T, V), or (1, V) for the last position alone."""
    cache = DynamicCache(config=model.config)
    ids = torch.tensor([prompt], device=model.device)
    out = model(input_ids=ids, past_key_values=cache, use_cache=True, logits_to_keep=0 if all_logits else 1)
    return cache, out.logits[0].float()


class Batch:
    """Rows decoded together. Keys and values are padded on the left to one length; a mask hides the padding.

    Rows join with a finished prefill and leave at any step, so nobody waits for the longest answer of a batch.
    """

    def __init__(self, model: Any) -> None:
        self.model = model
        self.rows: list[Row] = []
        self.cache: DynamicCache | None = None
        self.lengths: list[int] = []  # real tokens in the cache, by row

    @torch.inference_mode()
    def join(self, cache: DynamicCache, length: int, rows: list[Row]) -> None:
        """Take rows that share one prompt of this length."""
        if not rows:
            return
        copies = [(k.expand(len(rows), -1, -1, -1), v.expand(len(rows), -1, -1, -1)) for k, v in tensors(cache)]
        self.cache = as_cache(self.model, merged(tensors(self.cache), copies) if self.rows else copies)
        self.rows = self.rows + rows
        self.lengths = self.lengths + [length] * len(rows)

    @torch.inference_mode()
    def drop_gone(self) -> None:
        """Forget rows that are finished or cancelled, and the padding only they needed."""
        stay = [place for place, row in enumerate(self.rows) if not row.gone]
        if len(stay) == len(self.rows):
            return
        self.rows, self.lengths = [self.rows[p] for p in stay], [self.lengths[p] for p in stay]
        if not stay:
            self.cache = None
            return
        longest = max(self.lengths)
        kept = [(k[stay, :, -longest:], v[stay, :, -longest:]) for k, v in tensors(self.cache)]
        self.cache = as_cache(self.model, kept)

    @torch.inference_mode()
    def forward(self) -> Tensor:
        """Logits (B, V) after each row's last token."""
        device = self.model.device
        lengths = torch.tensor(self.lengths, device=device)
        width = max(self.lengths) + 1
        mask = torch.arange(width, device=device)[None] >= (width - 1 - lengths)[:, None]  # (B, width)
        out = self.model(
            input_ids=torch.tensor([[row.ids[-1]] for row in self.rows], device=device),
            attention_mask=mask.long(),
            position_ids=lengths[:, None],
            past_key_values=self.cache,
            use_cache=True,
        )
        self.lengths = [length + 1 for length in self.lengths]
        return out.logits[:, -1].float()


def tensors(cache: DynamicCache) -> list[tuple[Tensor, Tensor]]:
    """Keys and values by layer, each (B, heads, T, d)."""
    return [(layer.keys, layer.values) for layer in cache.layers]


def as_cache(model: Any, layers: list[tuple[Tensor, Tensor]]) -> DynamicCache:
    cache = DynamicCache(config=model.config)
    for number, (keys, values) in enumerate(layers):
        cache.update(keys, values, number)
    return cache


def merged(old: list, new: list) -> list[tuple[Tensor, Tensor]]:
    """Both batches' layers, padded on the left to the longer of the two."""
    length = max(old[0][0].shape[2], new[0][0].shape[2])
    return [
        (torch.cat([pad_left(a, length), pad_left(c, length)]), torch.cat([pad_left(b, length), pad_left(d, length)]))
        for (a, b), (c, d) in zip(old, new, strict=True)
    ]


def pad_left(states: Tensor, length: int) -> Tensor:
    return torch.nn.functional.pad(states, (0, 0, length - states.shape[2], 0))


def canary(loaded: Loaded) -> str:
    """SHA-256 of a greedy completion's ids: finite, not empty, and the same twice. Raises NotServable."""
    try:
        first, again = (greedy_ids(loaded) for _ in range(2))
    except (ApiError, FloatingPointError, RuntimeError, ValueError) as error:
        raise NotServable(f"the canary completion failed: {error}") from error
    if first != again:
        raise NotServable("the canary completion differs between two runs")
    return hashlib.sha256(" ".join(map(str, first)).encode()).hexdigest()


def greedy_ids(loaded: Loaded) -> list[int]:
    """The canary's ids, through the same admission and steps as any request."""
    ask = {"prompts": [{"messages": CANARY}], "n": 1, "sampling": asdict(Sampling(temperature=0))}
    (row,) = rows_for(loaded, ask, emit=lambda event: None)
    row.max_tokens = min(row.max_tokens, CANARY_TOKENS)
    loaded.admit([row])
    while not row.gone:
        loaded.step()
    loaded.step()
    return row.ids
