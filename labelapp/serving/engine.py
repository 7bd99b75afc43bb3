"""The door to torch: a version in memory, and its batch of rows. Only the engine's process imports this module."""

import hashlib
import random
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict
from typing import Any

import torch
from torch import Tensor

from alignment.config import JobError
from alignment.data.text import encode_prompt, encode_text, load_tokenizer
from alignment.manifest import ArtifactError, verify
from alignment.models.checkpoints import load_policy
from alignment.sampling.decode import Decoder
from labelapp.serving.errors import ApiError, invalid
from labelapp.serving.protocol import Sampling
from labelapp.serving.rows import Row, TextFlow
from labelapp.serving.sampling import choose
from labelapp.storage import StoreAway, at_hand

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
            path = at_hand(path, digest)
            verify(path, digest)
            self.model, self.tokenizer = load_policy(path), load_tokenizer(path)
        except (ArtifactError, JobError, StoreAway) as error:
            raise NotServable(str(error)) from error
        self.digest = digest
        self.context = int(self.model.config.max_position_embeddings)
        self.ends = end_tokens(self.model, self.tokenizer)
        self.abandon()
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

    def room(self, prompt: list[int], asked: int | None, param: str) -> int:
        """Tokens the answer may have: what was asked, or all that is left. Raises ApiError 400 with both numbers."""
        wanted = len(prompt) + (1 if asked is None else asked)
        if wanted <= self.context:
            return self.context - len(prompt) if asked is None else asked
        message = (
            f"This model's maximum context length is {self.context} tokens, but you asked for {wanted} "
            f"({len(prompt)} in the prompt, {wanted - len(prompt)} in the completion)."
        )
        raise invalid(param, message, "context_length_exceeded")

    def decode(self, ids: list[int]) -> str:
        return self.tokenizer.decode(ids, skip_special_tokens=True, clean_up_tokenization_spaces=False)

    def piece(self, token: int) -> str:
        return self.tokenizer.decode([token], clean_up_tokenization_spaces=False)

    def admit(self, rows: list[Row]) -> None:
        """Let rows join before the next step. A row that wants no token has said all with its echo."""
        for row in rows:
            if row.sampling["echo"]:
                self.echo(row)
            if row.max_tokens == 0:
                row.finish("length")
            else:
                seed = random.getrandbits(63) if row.seed is None else row.seed
                self.answering[self.decoder.add_row(row.prompt, seed=seed, max_new_tokens=row.max_tokens)] = row

    def step(self) -> None:
        """One more token for every row; rows that ended or left make room first."""
        self.let_go()
        for token in self.decoder.step():
            row = self.answering[token.row]
            is_end = token.id in self.ends
            row.take(token.id, is_end=is_end, logprobs=None if is_end else self.entries.get(token.row))
        self.let_go()

    def let_go(self) -> None:
        """Forget rows that finished or whose caller has left."""
        for number in [number for number, row in self.answering.items() if row.gone]:
            del self.answering[number]
            self.decoder.remove(number)

    def abandon(self) -> None:
        """Forget every row: after a failure the decoder's state means nothing."""
        self.decoder = Decoder(self.model, self.tokenizer.eos_token_id, self.choose)
        self.answering: dict[int, Row] = {}
        self.entries: dict[int, list[dict]] = {}

    def choose(self, logits: Tensor, numbered: Sequence[Any]) -> tuple[Tensor, Tensor]:
        """Each row's next token by its own settings; see sampling.decode.Choose. Notes asked log-probabilities."""
        if not torch.isfinite(logits).all():
            raise FloatingPointError("the model's logits are not finite")
        rows = [self.answering[row.number] for row in numbered]
        ids = choose(logits, rows, [row.random for row in numbered])
        logprobs = logits.log_softmax(-1)
        self.entries = {
            at.number: [self.entry(scores, token, row.sampling["logprobs"])]
            for at, row, scores, token in zip(numbered, rows, logprobs, ids.tolist(), strict=True)
            if row.sampling["logprobs"] is not None
        }
        return ids, logprobs.gather(1, ids[:, None])[:, 0]

    @torch.inference_mode()
    def echo(self, row: Row) -> None:
        """Send the prompt itself, with the log-probability of each of its tokens where asked."""
        entries, alternatives = None, row.sampling["logprobs"]
        if alternatives is not None:
            ids = torch.tensor([row.prompt], device=self.model.device)
            scores = self.model(input_ids=ids).logits[0, :-1].float().log_softmax(-1)  # (T - 1, V)
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
    for asked in ask["prompts"]:
        prompt = loaded.encode(asked)
        room = loaded.room(prompt, sampling["max_tokens"], "messages" if "messages" in asked else "prompt")
        for _ in range(ask["n"]):
            seed = None if sampling["seed"] is None else sampling["seed"] + len(rows)
            flow = TextFlow(loaded.decode, tuple(sampling["stop"]))
            rows.append(Row(len(rows), prompt, sampling, room, seed, emit, flow))
    return rows


def end_tokens(model: Any, tokenizer: Any) -> set[int]:
    """Ids that end an answer: the tokenizer's end token and what the model's generation config names."""
    named = model.generation_config.eos_token_id
    return {tokenizer.eos_token_id, *(named if isinstance(named, list) else [named])} - {None}


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
