"""Sampling from a policy with a key-value cache: rows join and leave between steps, and none depends on another."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import torch
from transformers import DynamicCache, PreTrainedModel, PreTrainedTokenizerBase
from transformers.cache_utils import DynamicLayer

from alignment.config import JobError, NonFiniteStep
from alignment.data.batches import mask_of, pad
from alignment.models.checkpoints import evaluating


class Token(NamedTuple):
    """One new token of a row. `end` is "stop" at the end token, "length" at the row's limit, else empty."""

    row: int
    id: int
    logprob: float  # nats, under the whole distribution at the row's temperature (1 where greedy)
    end: str


class Sample(NamedTuple):
    """A finished completion; ids and logprobs hold the end token where the policy wrote one."""

    ids: list[int]
    text: str
    logprobs: list[float]
    finished: bool  # the policy ended its turn; false: it met max_new_tokens
    version: int | None = None  # the rollout whose weights wrote it, where a server did


@dataclass
class Row:
    """What one completion needs to know about itself."""

    number: int
    prompt: list[int]
    temperature: float
    top_p: float
    max_new_tokens: int
    random: torch.Generator
    made: int = 0
    last: int = 0

    @property
    def position(self) -> int:
        """Position of `last` in the row's own text, padding not counted."""
        return len(self.prompt) + self.made - 1


# (B, V) logits and their B rows to (B,) ids and (B,) log-probabilities in nats.
Choose = Callable[[torch.Tensor, Sequence[Row]], tuple[torch.Tensor, torch.Tensor]]


class Columns(DynamicLayer):
    """Keys and values of one layer, (B, heads, T, D), with room for the next columns.

    transformers' own layer copies all of its keys for each new token, which took 40 % of the time at 32 rows.
    """

    SLACK = 64

    def __init__(self, keys: torch.Tensor, values: torch.Tensor) -> None:
        super().__init__()
        self.dtype, self.device, self.is_initialized = keys.dtype, keys.device, True
        self._hold(keys, values)

    def _hold(self, keys: torch.Tensor, values: torch.Tensor) -> None:
        self.width = keys.shape[2]
        self.stores = [torch.nn.functional.pad(t, (0, 0, 0, self.SLACK)) for t in (keys, values)]
        self._show()

    def _show(self) -> None:
        self.keys, self.values = (store[:, :, : self.width] for store in self.stores)

    def update(
        self, key_states: torch.Tensor, value_states: torch.Tensor, *_: object, **__: object
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Append one column a row; transformers calls this."""
        if self.width == self.stores[0].shape[2]:
            self._hold(self.keys, self.values)
        for store, new in zip(self.stores, (key_states, value_states), strict=True):
            store[:, :, self.width : self.width + 1] = new
        self.width += 1
        self._show()
        return self.keys, self.values


@dataclass
class Decoder:
    """The rows being completed by one policy. `add_row` and `remove` may be called between any two steps."""

    model: PreTrainedModel
    eos: int
    choose: Choose | None = None  # None: next_tokens
    rows: list[Row] = field(default_factory=list)
    waiting: list[Row] = field(default_factory=list)
    cache: DynamicCache = field(default_factory=DynamicCache)  # padded on the left: all rows end in one column
    mask: torch.Tensor | None = None  # (B, T), 1 at real tokens
    numbered: int = 0

    def __len__(self) -> int:
        return len(self.rows) + len(self.waiting)

    def add_row(
        self, prompt: Sequence[int], *, seed: int, max_new_tokens: int, temperature: float = 1.0, top_p: float = 1.0
    ) -> int:
        """The number of a new row, whose first token the next step makes. Raises JobError if it cannot fit."""
        context = self.model.config.max_position_embeddings
        if not prompt:
            raise JobError("a prompt is empty")
        if len(prompt) + max_new_tokens > context:
            raise JobError(f"{len(prompt)} prompt and {max_new_tokens} new tokens exceed the context of {context}")
        self.numbered += 1
        random = torch.Generator().manual_seed(seed)
        self.waiting.append(Row(self.numbered, list(prompt), temperature, top_p, max_new_tokens, random))
        return self.numbered

    def remove(self, number: int) -> None:
        """Forget a row (a stop string was met, or nobody listens any more)."""
        self.waiting = [row for row in self.waiting if row.number != number]
        if any(row.number == number for row in self.rows):
            self._keep([row.number != number for row in self.rows])

    @torch.inference_mode()
    def step(self) -> list[Token]:
        """One token for every row; finished rows leave. Raises NonFiniteStep where the policy is not finite."""
        logits = [self._advance()] if self.rows else []
        if self.waiting:
            logits.append(self._prefill())
        if not logits:
            return []
        ids, logprobs = (self.choose or next_tokens)(torch.cat(logits), self.rows)
        tokens = [self._take(*found) for found in zip(self.rows, ids.tolist(), logprobs.tolist(), strict=True)]
        if any(token.end for token in tokens):
            self._keep([not token.end for token in tokens])
        return tokens

    def _take(self, row: Row, token: int, logprob: float) -> Token:
        row.made, row.last = row.made + 1, token
        end = "stop" if token == self.eos else "length" if row.made == row.max_new_tokens else ""
        return Token(row.number, token, logprob, end)

    def _advance(self) -> torch.Tensor:
        """(B, V) logits after each row's last token."""
        device = self.model.device
        self.mask = torch.nn.functional.pad(self.mask, (0, 1), value=1)
        hidden = self.model.base_model(
            input_ids=torch.tensor([[row.last] for row in self.rows], device=device),
            position_ids=torch.tensor([[row.position] for row in self.rows], device=device),
            attention_mask=self.mask,
            past_key_values=self.cache,
            use_cache=True,
        ).last_hidden_state
        return self.model.get_output_embeddings()(hidden[:, -1]).float()

    def _prefill(self) -> torch.Tensor:
        """(N, V) logits after the waiting rows' prompts; they join the rows. A prompt of several rows is read once.

        Padded on the right, so that causal attention needs no mask and no query is without a key; then moved to the
        right edge, where the cache of all rows grows.
        """
        numbers: dict[tuple[int, ...], int] = {}
        which = [numbers.setdefault(tuple(row.prompt), len(numbers)) for row in self.waiting]
        prompts = list(numbers)
        cache, device = DynamicCache(), self.model.device
        ids, mask = pad(prompts, 0).to(device), mask_of(prompts).to(device)
        hidden = self.model.base_model(input_ids=ids, past_key_values=cache, use_cache=True).last_hidden_state
        lengths = mask.sum(1)
        last = hidden[torch.arange(len(prompts), device=device), lengths - 1]
        order = (torch.arange(mask.shape[1], device=device) + lengths[:, None]) % mask.shape[1]  # (N, T)
        index = order[:, None, :, None].expand_as(cache.layers[0].keys)
        moved = [(layer.keys.gather(2, index)[which], layer.values.gather(2, index)[which]) for layer in cache.layers]
        self._join(moved, mask.gather(1, order).long()[which])
        return self.model.get_output_embeddings()(last).float()[which]

    def _join(self, new: list[tuple[torch.Tensor, torch.Tensor]], mask: torch.Tensor) -> None:
        if self.rows:
            both = zip(self.cache.layers, new, strict=True)
            new = [(_stack(old.keys, keys, 2), _stack(old.values, values, 2)) for old, (keys, values) in both]
            mask = _stack(self.mask, mask, 1)
        self.mask, self.rows, self.waiting = mask, self.rows + self.waiting, []
        self.cache.layers = [Columns(*pair) for pair in new]

    def _keep(self, wanted: list[bool]) -> None:
        """Drop rows, and the columns in which only dropped rows had tokens."""
        self.rows = [row for row, keep in zip(self.rows, wanted, strict=True) if keep]
        if not self.rows:
            self.cache, self.mask = DynamicCache(), None
            return
        index = torch.tensor([i for i, keep in enumerate(wanted) if keep], device=self.mask.device)
        mask = self.mask[index]
        start = int(mask.any(0).int().argmax())
        self.mask = mask[:, start:]
        layers = self.cache.layers
        self.cache.layers = [Columns(old.keys[index, :, start:], old.values[index, :, start:]) for old in layers]


def _stack(upper: torch.Tensor, lower: torch.Tensor, axis: int) -> torch.Tensor:
    """Both along the first axis, the narrower one padded with zeros on the left of `axis`."""
    width = max(upper.shape[axis], lower.shape[axis])
    behind = upper.ndim - 1 - axis
    wide = [torch.nn.functional.pad(t, (0, 0) * behind + (width - t.shape[axis], 0)) for t in (upper, lower)]
    return torch.cat(wide)


def next_tokens(logits: torch.Tensor, rows: Sequence[Row]) -> tuple[torch.Tensor, torch.Tensor]:
    """(B,) ids and (B,) log-probabilities in nats, one draw from each row's own generator.

    A draw inverts the cumulative distribution at one uniform number. Top-p keeps the smallest set of most likely
    tokens whose share reaches p. Raises NonFiniteStep for logits that are not finite.
    """
    device = logits.device
    heat = torch.tensor([row.temperature or 1.0 for row in rows], device=device)
    logprobs = torch.log_softmax(logits / heat[:, None], dim=-1)
    if not torch.isfinite(logprobs.max(dim=-1).values).all():
        raise NonFiniteStep("the policy's logits are not finite: its weights are damaged")
    uniform = torch.tensor([_uniform(row) for row in rows], dtype=torch.float64, device=device)
    shares = nucleus(logprobs.double().exp(), torch.tensor([row.top_p for row in rows], device=device))
    total = shares.cumsum(-1)
    drawn = torch.searchsorted(total, (uniform * total[:, -1])[:, None], right=True)[:, 0]
    greedy = torch.tensor([row.temperature == 0 for row in rows], device=device)
    ids = torch.where(greedy, logits.argmax(-1), drawn.clamp(max=logits.shape[-1] - 1))
    return ids, logprobs.gather(1, ids[:, None])[:, 0]


def _uniform(row: Row) -> float:
    return torch.rand((), generator=row.random, dtype=torch.float64).item()


def nucleus(shares: torch.Tensor, top_p: torch.Tensor) -> torch.Tensor:
    """(B, V) shares with all but the smallest leading set that reaches top_p (B,) set to zero."""
    cut = (top_p < 1).nonzero()[:, 0]
    if len(cut):
        ordered, index = shares[cut].sort(dim=-1, descending=True)
        outside = ordered.cumsum(-1) - ordered >= top_p[cut, None]
        kept = ordered.masked_fill(outside, 0.0)
        shares = shares.index_copy(0, cut, torch.zeros_like(kept).scatter(1, index, kept))
    return shares


def sample(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    prompts_ids: Sequence[Sequence[int]],
    *,
    seeds: Sequence[int],
    max_new_tokens: int,
    temperature: float = 1.0,
    top_p: float = 1.0,
    batch_size: int = 32,
) -> list[Sample]:
    """One completion a prompt, in the prompts' order. A prompt too long for the context loses its beginning.

    At most batch_size rows run at a time; a finished row makes room at once for the next prompt. Raises JobError
    where max_new_tokens leaves no room for a prompt.
    """
    room = model.config.max_position_embeddings - max_new_tokens
    if room < 1:
        raise JobError(f"max_new_tokens is {max_new_tokens}: it must stay below the context of {room + max_new_tokens}")
    decoder = Decoder(model, tokenizer.eos_token_id)
    settings = {"max_new_tokens": max_new_tokens, "temperature": temperature, "top_p": top_p}
    queue = sorted(range(len(prompts_ids)), key=lambda i: -len(prompts_ids[i]))
    made: dict[int, list[Token]] = {}
    index: dict[int, int] = {}
    with evaluating(model):
        while queue or len(decoder):
            while queue and len(decoder) < batch_size:
                i = queue.pop()
                index[decoder.add_row(list(prompts_ids[i])[-room:], seed=seeds[i], **settings)] = i
            for token in decoder.step():
                made.setdefault(index[token.row], []).append(token)
    return [_finish(tokenizer, made[i]) for i in range(len(prompts_ids))]


def _finish(tokenizer: PreTrainedTokenizerBase, tokens: list[Token]) -> Sample:
    ids = [token.id for token in tokens]
    text = tokenizer.decode(ids, skip_special_tokens=True)
    return Sample(ids, text, [token.logprob for token in tokens], tokens[-1].end == "stop")


def seed_of(seed: int, prompt: Any, number: int) -> int:
    """The seed of one completion: a 63-bit pure function of the job's seed, the prompt's id and the sample."""
    digest = hashlib.sha256(json.dumps([seed, prompt, number]).encode()).digest()
    return int.from_bytes(digest[:8]) >> 1
