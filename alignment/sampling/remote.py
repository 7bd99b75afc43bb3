"""Rollouts from a vLLM server: it gets new weights, proves that it has them, and says who wrote what.

A version is the number of the rollout that its weights were first meant for. Whether the server has the weights that
it was given is measured: on one fixed text it must say their log-probabilities, not those of earlier ones.
"""

from __future__ import annotations

import secrets
import shutil
import time
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from alignment.config import JobError, ServerLost
from alignment.config.online import Sampling
from alignment.config.server import Server
from alignment.models.adapters import adapted_layers, save_adapter
from alignment.models.checkpoints import evaluating
from alignment.models.logprob import completion_logprobs
from alignment.sampling.decode import Sample, seed_of
from alignment.sampling.rollouts import Completion, Prompt
from alignment.sampling.vllm import VLLM, UnknownModel, Unreachable, sample_of

PROBE_TOKENS = 64
LONGEST_WAIT = 10.0  # seconds between two tries


class Loaded(NamedTuple):
    """What the server was given last."""

    name: str
    number: int  # the rollout that it was given for
    answers: int  # the version that it answers with, as measured


class RemoteSampler:
    """Samples as `sample_completions` does, on a server. A part of a run's state: what each version says of one text.

    Args:
        prompts: the longest of them is the text that weights are told apart by.
    """

    def __init__(
        self, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, how: Server, prompts: Sequence[Prompt]
    ) -> None:
        self.model, self.tokenizer, self.how, self.client = model, tokenizer, how, VLLM(how)
        self.probe = max((prompt.ids for prompt in prompts), key=len)[:PROBE_TOKENS]
        self.run, self.given = secrets.token_hex(4), 0  # of this attempt: a name is never used twice
        self.loaded: Loaded | None = None
        self.names: list[str] = []  # of what may lie in the directory, and of adapters that the server may hold
        self.versions: list[int] = []
        self.expected = torch.zeros(0, len(self.probe) - 1)  # of the text, under each of the versions

    def __call__(
        self,
        model: PreTrainedModel,
        tokenizer: PreTrainedTokenizerBase,
        prompts: Sequence[Prompt],
        how: Sampling,
        *,
        seed: int,
        occasion: Sequence[Any],
    ) -> list[Completion]:
        """`how.completions` of each prompt, in the prompts' order; occasion begins with the rollout's number.

        Raises JobError where the server's answers cannot be learnt from, and ServerLost where it stays away.
        """
        until, wait = time.monotonic() + self.how.patience_seconds, 0.25
        while True:
            try:
                return self.attempt(prompts, how, seed=seed, occasion=occasion)
            except Unreachable as error:
                self.loaded = None  # what comes back may have been started again, with the parent's weights
                if time.monotonic() + wait > until:
                    raise ServerLost(f"the rollout server {self.how.url} is lost: {error}") from error
            time.sleep(wait)
            wait = min(2 * wait, LONGEST_WAIT)

    def attempt(
        self, prompts: Sequence[Prompt], how: Sampling, *, seed: int, occasion: Sequence[Any]
    ) -> list[Completion]:
        number = occasion[0]
        self.client.check_health()  # before weights are written for nobody
        if self.how.sleep:
            release_memory()
            self.client.wake()
        if self.loaded is None or number - self.loaded.answers > self.how.max_staleness:
            self.loaded = self.push(number)
        made = self.sample(prompts, how, seed=seed, occasion=occasion)
        if not self.adapts and self.client.weight_version() not in {None, self.loaded.name}:
            raise Unreachable("its weights were changed while it sampled: it was started again, or is not ours alone")
        if self.how.sleep:
            self.client.sleep()
        return made

    @property
    def adapts(self) -> bool:
        """Whether adapters are handed over; else all weights are."""
        return bool(adapted_layers(self.model))

    def push(self, number: int) -> Loaded:
        """Give the server the present weights, under a name of their own, and measure what it then answers with."""
        self.given += 1
        now, name = self.probe_logprobs(), f"{self.run}-{number}-{self.given}"
        path = self.write(name)
        if self.adapts:
            self.client.load_adapter(path, name)
        else:
            self.client.reload(path, name)
        answers = self.measured_version(name, number, now)
        self.remember(number, now)
        for old in self.names[:-1]:
            if self.adapts:
                self.client.unload_adapter(old)
            self.names.remove(old)
        return Loaded(name, number, answers)

    def write(self, name: str) -> Path:
        """The present weights as a directory of safetensors that appears whole, in the place of earlier ones."""
        path, fresh = Path(self.how.directory) / name, Path(self.how.directory) / f"{name}.tmp"
        for old in self.names:
            shutil.rmtree(Path(self.how.directory) / old, ignore_errors=True)
        fresh.parent.mkdir(parents=True, exist_ok=True)
        if self.adapts:
            save_adapter(self.model, fresh)
        else:
            self.model.save_pretrained(fresh)
        fresh.rename(path)
        self.names.append(name)
        return path

    @torch.no_grad()
    def probe_logprobs(self) -> Tensor:
        """(T - 1,) log-probabilities of the text under the present weights, in nats."""
        ids = torch.tensor([self.probe], device=self.model.device)
        real, predicted = torch.ones_like(ids, dtype=torch.bool), torch.ones_like(ids, dtype=torch.bool)
        predicted[:, 0] = False
        with evaluating(self.model):
            return completion_logprobs(self.model, ids, real, predicted)[0].cpu()

    def measured_version(self, name: str, number: int, now: Tensor) -> int:
        """The version that the server answers with. Raises JobError where it is unknown or too old."""
        try:
            said = torch.tensor(self.client.prompt_logprobs(self.asked(name), self.probe))
        except UnknownModel as error:  # a moment after it was loaded
            raise JobError(f"the rollout server is not the one that is meant: {error}") from error
        reported = name if self.adapts else self.client.weight_version()
        answers = nearest_version(said, now, number, dict(zip(self.versions, self.expected, strict=True)))
        if reported not in {None, name}:
            answers = min(answers, self.number_of(reported))
        if number - answers > self.how.max_staleness:
            whose = f"of rollout {answers}" if answers >= 0 else f"that it calls {reported!r}"
            raise JobError(
                f"the rollout server was given the weights of rollout {number} and answers with those {whose}; at most "
                f"{self.how.max_staleness} rollouts are allowed (sampling.server.max_staleness). It did not load them"
            )
        difference = (said - now).abs().mean().item()
        if answers == number and not difference <= self.how.max_difference_nats:
            raise JobError(
                f"on the same text the rollout server and the trainer differ by {difference:.3g} nats a token, at most "
                f"{self.how.max_difference_nats:g} is allowed (sampling.server.max_difference_nats): does it serve "
                "this job's parent, which no other run has changed in it?"
            )
        return answers

    def asked(self, name: str) -> str:
        """The model that a request names."""
        return name if self.adapts else self.how.model

    def number_of(self, reported: str | None) -> int:
        """The rollout that a reported name was given for; -1 for a name that is not ours."""
        run, *rest = str(reported).split("-")
        return int(rest[0]) if run == self.run and len(rest) == 2 else -1

    def remember(self, number: int, now: Tensor) -> None:
        if number not in self.versions:
            self.versions, self.expected = [*self.versions, number], torch.cat([self.expected, now[None]])

    def sample(
        self, prompts: Sequence[Prompt], how: Sampling, *, seed: int, occasion: Sequence[Any]
    ) -> list[Completion]:
        """One request a prompt, as many at a time as give `how.batch_size` completions."""
        met, work = Counter(), []
        for prompt in prompts:  # one that comes twice is not answered twice in the same words
            work.append((prompt, seed_of(seed, [*occasion, prompt.id], met[str(prompt.id)]) >> 31))
            met[str(prompt.id)] += how.completions
        pool = ThreadPoolExecutor(max(1, how.batch_size // how.completions))
        try:
            found = list(pool.map(lambda one: self.completed(*one, how), work))
        finally:
            pool.shutdown(cancel_futures=True)  # after a failure nothing more is asked
        return [Completion(prompt, made) for (prompt, _), group in zip(work, found, strict=True) for made in group]

    def completed(self, prompt: Prompt, seed: int, how: Sampling) -> list[Sample]:
        name, version = self.asked(self.loaded.name), self.loaded.answers
        limits = {"max_tokens": how.max_new_tokens, "temperature": how.temperature, "end": self.tokenizer.eos_token_id}
        answer = self.client.complete(name, prompt.ids, count=how.completions, seed=seed, **limits)
        if answer.model != name:
            raise JobError(f"the rollout server was asked for the model {name!r} and answered as {answer.model!r}")
        return [sample_of(choice, self.tokenizer, version) for choice in answer.choices]

    def state_dict(self) -> dict[str, Any]:
        return {"versions": self.versions, "expected": self.expected, "names": self.names}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """The weights are handed over again before the next sample, under a new name; the names of old ones go."""
        self.versions, self.expected, self.names = list(state["versions"]), state["expected"], list(state["names"])
        self.loaded = None


def nearest_version(said: Tensor, now: Tensor, number: int, earlier: dict[int, Tensor]) -> int:
    """The version whose log-probabilities (T,) a server's are: `number`, those `now`, or an earlier one.

    An earlier one only where it is less than half as far away as it is from the present ones. Rounding of the server
    cannot seem so: it moves what is said away from the present weights in no direction, and not by half of that way.
    """
    far = {version: (said - then).norm().item() for version, then in earlier.items()}
    stale = [version for version, then in earlier.items() if far[version] < (now - then).norm().item() / 2]
    return min(stale, key=far.__getitem__, default=number)


def release_memory() -> None:
    """Give what the updates left in torch's cache back to the GPU, where a server is about to need it."""
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
