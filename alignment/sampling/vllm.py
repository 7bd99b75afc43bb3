"""What vLLM's HTTP server is asked, and what its answers must hold. docs/rollouts.md names the versions and sources."""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import httpx
from transformers import PreTrainedTokenizerBase

from alignment.config import JobError
from alignment.config.server import Server
from alignment.sampling.decode import Sample

CONNECT_SECONDS = 5.0
PLAIN = {  # the whole distribution at one temperature, whatever the model's generation_config.json says
    "top_p": 1.0, "top_k": -1, "min_p": 0.0, "repetition_penalty": 1.0, "presence_penalty": 0.0,
    "frequency_penalty": 0.0, "ignore_eos": False, "stream": False,
}  # fmt: skip
REMEDIES = {  # what a server was started without that does not know a path
    "/collective_rpc": "VLLM_SERVER_DEV_MODE=1",
    "/reset_prefix_cache": "VLLM_SERVER_DEV_MODE=1",
    "/sleep": "VLLM_SERVER_DEV_MODE=1 and --enable-sleep-mode",
    "/wake_up": "VLLM_SERVER_DEV_MODE=1 and --enable-sleep-mode",
    "/v1/load_lora_adapter": "VLLM_ALLOW_RUNTIME_LORA_UPDATING=True and --enable-lora",
    "/v1/unload_lora_adapter": "VLLM_ALLOW_RUNTIME_LORA_UPDATING=True and --enable-lora",
}


class Unreachable(Exception):
    """The server does not answer, or fails; it may come back."""


class UnknownModel(Unreachable):
    """The server does not know the model's name: it was started without it, or again since it was given it."""


class Answer(NamedTuple):
    """The completions of one prompt and the name of the model that wrote them, as the server says."""

    model: str
    choices: list[dict[str, Any]]


class VLLM:
    """One server. Every method raises Unreachable where it fails, and JobError where it refuses."""

    def __init__(self, how: Server) -> None:
        key = os.environ.get(how.key_variable, "") if how.key_variable else ""
        if how.key_variable and not key:
            raise JobError(f"the environment has no {how.key_variable}, which sampling.server.key_variable names")
        self.http = httpx.Client(
            base_url=how.url,
            headers={"Authorization": f"Bearer {key}"} if key else {},
            timeout=httpx.Timeout(how.timeout_seconds, connect=min(CONNECT_SECONDS, how.timeout_seconds)),
            limits=httpx.Limits(max_connections=None),
            follow_redirects=False,
            trust_env=False,  # no proxy stands between a trainer and its sampler
        )

    def check_health(self) -> None:
        self._ask("/health", method="GET")

    def complete(
        self, model: str, prompt: Sequence[int], *, count: int, seed: int, end: int, max_tokens: int, temperature: float
    ) -> Answer:
        """`count` completions of token ids."""
        asked = {"n": count, "seed": seed, "max_tokens": max_tokens, "temperature": temperature, "logprobs": 1}
        exact = {"return_token_ids": True, "stop_token_ids": [end], "skip_special_tokens": False}
        said = self._ask("/v1/completions", {"model": model, "prompt": list(prompt), **asked, **exact, **PLAIN})
        choices = said.get("choices")
        if not isinstance(choices, list) or len(choices) != count:
            raise JobError(f"the rollout server was asked for {count} completions and answered {said}"[:500])
        return Answer(str(said.get("model")), sorted(choices, key=lambda choice: choice.get("index", 0)))

    def prompt_logprobs(self, model: str, ids: Sequence[int]) -> list[float]:
        """Log-probabilities in nats, at temperature 1, of every token of a text but its first."""
        asked = {"max_tokens": 1, "temperature": 1.0, "prompt_logprobs": 1}
        said = self._ask("/v1/completions", {"model": model, "prompt": list(ids), **asked, **PLAIN})
        try:
            places = said["choices"][0]["prompt_logprobs"]
            return [float(place[str(token)]["logprob"]) for place, token in zip(places[1:], ids[1:], strict=True)]
        except (LookupError, TypeError, ValueError):
            remedy = "start vLLM with --max-logprobs 1 or more, and without speculative decoding"
            raise JobError(f"the rollout server's answer holds no prompt_logprobs: {remedy}") from None

    def reload(self, path: Path, name: str) -> None:
        """Have it read all weights from a directory, forget what the older ones computed, and remember a name."""
        self._ask("/collective_rpc", {"method": "reload_weights", "kwargs": {"weights_path": str(path)}})
        self._ask("/reset_prefix_cache")
        self._ask("/update_weight_version", {"new_version": name}, optional=True)

    def load_adapter(self, path: Path, name: str) -> None:
        self._ask("/v1/load_lora_adapter", {"lora_name": name, "lora_path": str(path)})

    def unload_adapter(self, name: str) -> None:
        """Forget an adapter; one that it does not know is as good as forgotten."""
        self._ask("/v1/unload_lora_adapter", {"lora_name": name}, optional=True)

    def weight_version(self) -> str | None:
        """The name of its weights; nothing where it is too old to keep one."""
        said = self._ask("/weight_info", method="GET", optional=True)
        return None if said is None else str(said.get("weight_version"))

    def sleep(self) -> None:
        """Level 1: its memory on the GPU is free, its weights are kept in that of the host."""
        self._ask("/sleep?level=1")

    def wake(self) -> None:
        self._ask("/wake_up")

    def _ask(
        self, path: str, body: dict[str, Any] | None = None, *, method: str = "POST", optional: bool = False
    ) -> Any:
        """What the answer holds, {} where it is no JSON; nothing where `optional` and it knows no such path or name."""
        try:
            answer = self.http.request(method, path, json=body)
        except httpx.TimeoutException as error:
            raise Unreachable(f"it did not answer {path} in time") from error
        except httpx.TransportError as error:
            raise Unreachable(f"{path}: {error}") from error
        words = answer.text[:300]
        if answer.status_code == 404 and optional:
            return None
        if answer.status_code == 404 and path == "/v1/completions":
            raise UnknownModel(f"it does not know the model {(body or {})['model']!r}: {words}")
        if answer.status_code >= 500:
            raise Unreachable(f"{path} failed with status {answer.status_code}: {words}")
        if answer.status_code >= 300:
            raise JobError(f"the rollout server refuses {path} ({answer.status_code}: {words}){remedy_of(path)}")
        try:
            return answer.json()
        except ValueError:
            return {}


def remedy_of(path: str) -> str:
    needed = REMEDIES.get(path.partition("?")[0])
    return f"; start vLLM with {needed}" if needed else ""


def sample_of(choice: dict[str, Any], tokenizer: PreTrainedTokenizerBase, version: int) -> Sample:
    """A completion exactly as it was sampled. Raises JobError where its tokens or log-probabilities are not told."""
    ids, logprobs = choice.get("token_ids"), (choice.get("logprobs") or {}).get("token_logprobs")
    if not ids or not all(isinstance(token, int) and 0 <= token < len(tokenizer) for token in ids):
        raise JobError(
            "the rollout server's answer holds no token_ids of this vocabulary, and a text that is tokenised again is "
            "not what was sampled: serve this job's parent with vLLM of October 2025 or later (return_token_ids)"
        )
    if not logprobs or len(logprobs) != len(ids) or not all(map(is_logprob, logprobs)):
        raise JobError(
            "the rollout server's answer does not hold one log-probability a token: "
            "start vLLM with --max-logprobs 1 or more, and without speculative decoding"
        )
    finished = choice.get("finish_reason") == "stop"
    if choice.get("finish_reason") not in {"stop", "length"}:
        raise Unreachable(f"it broke a completion off: {choice.get('finish_reason')}")
    if finished != (ids[-1] == tokenizer.eos_token_id) or tokenizer.eos_token_id in ids[:-1]:
        raise JobError(
            f"the rollout server ended a completion with the token {ids[-1]}, and the policy's end token is "
            f"{tokenizer.eos_token_id}: start vLLM with --generation-config vllm"
        )
    return Sample(ids, tokenizer.decode(ids, skip_special_tokens=True), logprobs, finished, version)


def is_logprob(value: Any) -> bool:
    return isinstance(value, int | float) and math.isfinite(value) and value <= 1e-3
