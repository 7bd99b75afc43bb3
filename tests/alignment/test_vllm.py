"""Rollouts from a real vLLM server, where VLLM names its program: `VLLM=/path/to/bin/vllm python3 manage.py test ...`.

Not part of the usual suite: vLLM is no dependency. On a CPU build set VLLM_CPU_KVCACHE_SPACE=1 too.
"""

import contextlib
import os
import signal
import socket
import subprocess
import threading
import time

import httpx
import pytest
import torch
from transformers import LlamaForCausalLM

from alignment.config import EXIT_BAD_INPUT, EXIT_DONE, Input
from alignment.data.text import load_tokenizer
from alignment.models.checkpoints import load_policy, save_checkpoint
from tests.alignment.snapshots import make_job, metrics_of
from tests.alignment.stages import run
from tests.alignment.test_remote_training import config_of
from tests.tiny_models import make_tiny_policy

PROGRAM = os.environ.get("VLLM", "")
START_SECONDS = 300
LORA = {"lora": {"rank": 8, "alpha": 16.0}, "plan": {"learning_rate": 0.02}}

pytestmark = pytest.mark.skipif(not PROGRAM, reason="VLLM does not name the vllm program")


class Real:
    """One `vllm serve` in fp32."""

    def __init__(self, parent: str, *options: str, port: int = 0) -> None:
        self.port = port or free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        exact = ["--dtype", "float32", "--max-model-len", "256", "--enforce-eager", "--generation-config", "vllm"]
        command = [PROGRAM, "serve", parent, "--served-model-name", "policy", "--host", "127.0.0.1"]
        switches = {"VLLM_SERVER_DEV_MODE": "1", "VLLM_ALLOW_RUNTIME_LORA_UPDATING": "True", "HF_HUB_OFFLINE": "1"}
        words = [*command, "--port", str(self.port), *exact, *options]
        self.process = subprocess.Popen(words, env={**os.environ, **switches}, start_new_session=True)
        until = time.monotonic() + START_SECONDS
        while not self.is_healthy():
            assert self.process.poll() is None and time.monotonic() < until, "vLLM did not start"
            time.sleep(1)

    def is_healthy(self) -> bool:
        try:
            return httpx.get(f"{self.url}/health", timeout=2).is_success
        except httpx.TransportError:
            return False

    def stop(self) -> None:
        """End it and its engine, at once."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


@pytest.fixture(scope="module")
def parent(tmp_path_factory):
    """A policy with heads of a size that vLLM knows, and a vocabulary head of its own."""
    path = tmp_path_factory.mktemp("models")
    make_tiny_policy(path / "small", width=256)
    tied, tokenizer = load_policy(path / "small"), load_tokenizer(path / "small")
    tied.config.tie_word_embeddings = False
    model = LlamaForCausalLM(tied.config).eval()
    model.load_state_dict({**tied.state_dict(), "lm_head.weight": 3 * tied.model.embed_tokens.weight.detach()})
    return Input(str(path / "parent"), save_checkpoint(model, tokenizer, path / "parent", {}))


@pytest.fixture(scope="module")
def server(parent):
    options = ("--logprobs-mode", "processed_logprobs", "--enable-lora", "--max-loras", "2", "--max-lora-rank", "8")
    found = Real(parent.path, *options)
    yield found
    found.stop()


# The adapter first: all weights, once handed over, stay in the server.
@pytest.mark.parametrize("options", [LORA, {}, {"sampling": {"temperature": 0.7}}], ids=["lora", "weights", "warm"])
def test_every_rollout_is_of_the_weights_that_were_handed_over(tmp_path, parent, server, options):
    sampling = {"prompts": 8, "completions": 8, "max_new_tokens": 16, **options.get("sampling", {})}
    plan = {"max_steps": 6, **options.get("plan", {})}
    config = config_of(tmp_path, server, **{**options, "sampling": sampling, "plan": plan})
    exit_code, result = run(make_job("grpo", tmp_path / "out", config, parent=parent), tmp_path)
    assert exit_code == EXIT_DONE, result
    lines = metrics_of(tmp_path / "out")
    assert len(lines) == 6
    assert max(line["sampler_difference_max_nats"] for line in lines) < 1e-3
    assert {line["staleness"] for line in lines} == {0.0}
    assert torch.tensor([line["gradient_norm"] for line in lines]).max() > 0


def test_a_server_that_is_started_again_in_the_middle_gets_the_weights_again(tmp_path, parent):
    servers = [Real(parent.path)]

    def restart() -> None:
        lines = tmp_path / "out" / "metrics.jsonl"
        while not lines.exists() or len(lines.read_text().splitlines()) < 3:
            time.sleep(0.05)
        servers[0].stop()
        servers.append(Real(parent.path, port=servers[0].port))

    thread = threading.Thread(target=restart)
    thread.start()
    try:
        place = {"patience_seconds": START_SECONDS}
        config = config_of(tmp_path, servers[0], server=place, plan={"max_steps": 40})
        exit_code, result = run(make_job("grpo", tmp_path / "out", config, parent=parent), tmp_path)
    finally:
        thread.join()
        for server in servers:
            server.stop()
    assert exit_code == EXIT_DONE, result
    lines = metrics_of(tmp_path / "out")
    assert len(servers) == 2 and len(lines) == 40
    assert max(line["sampler_difference_max_nats"] for line in lines) < 1e-3


def test_log_probabilities_before_the_temperature_are_refused(tmp_path, parent):
    server = Real(parent.path)  # vLLM's own default: raw_logprobs
    try:
        config = config_of(tmp_path, server, sampling={"temperature": 0.5, "max_new_tokens": 16})
        exit_code, result = run(make_job("grpo", tmp_path / "out", config, parent=parent), tmp_path)
    finally:
        server.stop()
    assert exit_code == EXIT_BAD_INPUT and "--logprobs-mode processed_logprobs" in result["reason"]
