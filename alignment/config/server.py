"""A server that samples instead of the trainer; see docs/rollouts.md."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from alignment.config.job import build, require


@dataclass(frozen=True)
class Server:
    """A vLLM server that writes the rollouts; nested under "sampling.server". A page may not set it.

    It gets the adapter where the job trains one ("lora"), and all weights where not.
    """

    url: str = ""  # such as http://127.0.0.1:8000, without a path
    model: str = "policy"  # the name under which it serves the parent
    directory: str = ""  # where weights are handed over: an absolute path that trainer and server share
    key_variable: str = ""  # the environment variable that holds its API key; empty: it asks for none
    sleep: bool = False  # frees its memory while the trainer trains
    max_staleness: int = 0  # rollouts that its weights may be behind; it gets new ones before they are more
    importance_cap: float = 2.0  # of the weight of a token that it was less likely to write than the trainer is
    max_difference_nats: float = 0.1  # mean a token between its log-probabilities and the trainer's, on equal weights
    timeout_seconds: float = 600.0  # of one request
    patience_seconds: float = 60.0  # in which a server that is gone may come back; then the job stops, to be resumed

    def __post_init__(self) -> None:
        require(is_address(self.url), "server.url", self.url, "http://HOST:PORT, without a path or a password")
        require(bool(self.model), "server.model", self.model, "the name that vllm serve has as --served-model-name")
        shared = os.path.isabs(self.directory)
        require(shared, "server.directory", self.directory, "an absolute path that trainer and server share")
        require(self.max_staleness >= 0, "server.max_staleness", self.max_staleness, "0 or more rollouts")
        require(self.importance_cap >= 1, "server.importance_cap", self.importance_cap, "at least 1, 2 is usual")
        limit = self.max_difference_nats
        require(limit > 0, "server.max_difference_nats", limit, "a positive number of nats, 0.1 is usual")
        require(self.timeout_seconds > 0, "server.timeout_seconds", self.timeout_seconds, "a positive number")
        require(self.patience_seconds >= 0, "server.patience_seconds", self.patience_seconds, "0 or more seconds")


def is_address(url: str) -> bool:
    """Whether it is http(s), a host and perhaps a port, and nothing else."""
    try:
        parts = urlsplit(url)
        return parts.scheme in {"http", "https"} and bool(parts.hostname) and not (
            parts.username or parts.password or parts.path.strip("/") or parts.query or parts.fragment
        ) and (parts.port is None or parts.port > 0)
    except ValueError:
        return False


def server(raw: Any) -> Server | None:
    """The nested config of a server; nothing where the trainer samples by itself."""
    return raw if raw is None or isinstance(raw, Server) else build(Server, raw)


def require_own_sampler(sampling: Any) -> None:
    """Refuse a server where a stage does not correct for its differences."""
    remedy = "leave it out: only grpo, ppo, safe and safe_ppo take their rollouts from a server"
    require(sampling.server is None, "sampling.server", getattr(sampling.server, "url", ""), remedy)
