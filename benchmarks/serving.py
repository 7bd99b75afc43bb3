"""How fast the served policy answers: `python3 manage.py bench serving` prints one JSON line in about half a minute.

Everything is the real thing on servers of its own: a database, one web process, one engine, HTTP. Beside it stands
transformers' own `generate` on the same weights and threads, so that the price of serving can be read off.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
BASE_MODEL = ROOT / "labelapp" / "demo" / "base_model"
TOPICS = ROOT / "labelapp" / "demo" / "topics.txt"
NEW_TOKENS = 64
ENTRY = "--in-own-environment"


def main(argv: list[str] | None = None) -> int:
    """Start the measurement in an environment of its own: this process may know the user's database."""
    words = list(sys.argv[1:] if argv is None else argv)
    parser = argparse.ArgumentParser(prog="bench serving", description=__doc__)
    parser.add_argument("--threads", type=int, default=1, help="CPU threads of the engine and of plain generate")
    parser.add_argument("--requests", type=int, default=3, help="requests of each client")
    parser.add_argument(ENTRY, dest="work", default="", help=argparse.SUPPRESS)
    options = parser.parse_args(words)
    if options.work:
        print(json.dumps(measure(Path(options.work), options.threads, options.requests)))
        return 0
    with tempfile.TemporaryDirectory(prefix="lb-serving-") as work:
        os.chmod(work, 0o755)  # a root's database server runs under another account, which must get through
        command = [sys.executable, "-m", "benchmarks.serving", *words, ENTRY, work]
        return subprocess.run(command, cwd=ROOT, env=environment(Path(work), options.threads)).returncode


def environment(work: Path, threads: int) -> dict[str, str]:
    """Nothing of the user's: servers, sockets and files below `work`."""
    kept = {name: value for name, value in os.environ.items() if not name.endswith("_URL")}
    return kept | {
        "LABELAPP_VAR": str(work), "LABELAPP_LOCAL": "1", "LABELAPP_SUPERVISED": "1", "LOG_LEVEL": "CRITICAL",
        "DJANGO_SETTINGS_MODULE": "labelapp.settings", "API_REQUESTS_PER_MINUTE": "1000000", "DB_POOL": "1",
        "ENGINE_THREADS": str(threads), "OMP_NUM_THREADS": str(threads), "HF_HUB_DISABLE_PROGRESS_BARS": "1",
        "PYTHONWARNINGS": "ignore", "ENGINE_SOCKET": str(work / "engine.sock"),
    }  # fmt: skip


def measure(work: Path, threads: int, requests: int) -> dict[str, Any]:
    import django

    from labelapp.embedded import Services

    services = Services("default")
    with services.held():
        django.setup()
        from django.core.management import call_command

        call_command("migrate", verbosity=0)
        path, figures = prepare(work, threads)
        with contextlib.ExitStack() as processes:
            url, pids = start(processes)
            figures |= ask(url, pids, requests, *project_with_two_versions(path))
    return {"threads": threads, "cores": os.cpu_count(), "new_tokens": NEW_TOKENS, **figures}


def prepare(work: Path, threads: int) -> tuple[Path, dict[str, Any]]:
    """The demo's base model, or a random one of its size where there is none; and how fast plain generate is."""
    import torch

    from alignment.data.text import encode_prompt, load_tokenizer, train_tokenizer
    from alignment.models.checkpoints import load_policy, new_policy, save_checkpoint

    torch.set_num_threads(threads)
    path = work / "one"
    if BASE_MODEL.is_dir():
        shutil.copytree(BASE_MODEL, path)
    else:
        tokenizer = train_tokenizer(TOPICS.read_text().splitlines(), 4096)
        save_checkpoint(new_policy(tokenizer, width=256, depth=8, heads=8, context=512), tokenizer, path, {})
    model, tokenizer = load_policy(path), load_tokenizer(path)
    prompt = encode_prompt(tokenizer, TOPICS.read_text().splitlines()[0])
    figures = {
        "model": {"parameters": model.num_parameters(), "of": "demo" if BASE_MODEL.is_dir() else "random weights"},
        "generate_tokens_per_second": {str(n): plain(model, prompt, n) for n in (1, 8)},
    }
    return path, figures


def plain(model: Any, prompt: list[int], rows: int) -> float:
    """Tokens a second of transformers' generate, sampling, no end token, the better of two runs."""
    import torch

    ids = torch.tensor([prompt] * rows)
    seconds = []
    for _ in range(2):
        began = time.perf_counter()
        model.generate(ids, max_new_tokens=NEW_TOKENS, min_new_tokens=NEW_TOKENS, do_sample=True)
        seconds.append(time.perf_counter() - began)
    return round(rows * NEW_TOKENS / min(seconds), 1)


def start(processes: contextlib.ExitStack) -> tuple[str, dict[str, int]]:
    """Run web and engine; the address of the web, and both process ids."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    from labelapp.management.commands.up import web_command

    commands = {"web": web_command("127.0.0.1", port, 1), "engine": ["manage.py", "engine"]}
    pids = {name: processes.enter_context(running(words)) for name, words in commands.items()}
    return f"http://127.0.0.1:{port}", pids


@contextlib.contextmanager
def running(words: list[str]) -> Iterator[int]:
    process = subprocess.Popen([sys.executable, *words], cwd=ROOT)
    try:
        yield process.pid
    finally:
        process.terminate()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def project_with_two_versions(path: Path) -> tuple[Any, list[Any], str, Any]:
    """Two versions of the same weights under different digests, an admin to promote them, and a key."""
    from alignment.manifest import write_manifest
    from labelapp.accounts.keys import create_key
    from labelapp.models import Project, User, Version

    project = Project.objects.create(slug="bench", name="Bench")
    admin = User.objects.create(username="bench")
    versions = []
    for name in ("one", "two"):
        place = path.with_name(name)
        if not place.exists():
            shutil.copytree(path, place)
        (place / "card.json").write_text(json.dumps({"bench": name}))
        digest = write_manifest(place, kind="checkpoint")
        versions.append(
            Version.objects.create(project=project, kind="policy", name=f"policy-{name}", path=place, digest=digest)
        )
    return project, versions, create_key(project=project, name="bench")[1], admin


def cpu_seconds(pid: int) -> float:
    """CPU time of a process and its children so far."""
    import psutil

    family = [psutil.Process(pid), *psutil.Process(pid).children(recursive=True)]
    return sum(sum(member.cpu_times()[:2]) for member in family)


def ask(
    url: str, pids: dict[str, int], requests: int, project: Any, versions: list[Any], token: str, admin: Any
) -> dict[str, Any]:
    from labelapp.rounds.promote import is_loaded

    client = Client(url, token)
    until(lambda: is_up(url))
    loading = switch(client, project, versions[0], admin)
    until(lambda: is_loaded(versions[1]))
    client.answer(0)  # the first answer warms both processes up
    figures: dict[str, Any] = {}
    for clients in (1, 8):
        before = {name: cpu_seconds(pid) for name, pid in pids.items()}
        tokens, rate, first = load(client, clients, requests)
        figures[f"tokens_per_second_{clients}"] = rate
        figures[f"first_token_ms_p50_{clients}"] = first
        figures[f"cpu_ms_per_token_{clients}"] = {
            name: round(1000 * (cpu_seconds(pid) - before[name]) / tokens, 2) for name, pid in pids.items()
        }
    return figures | {
        "load_and_switch_seconds": loading,
        "switch_seconds": [switch(client, project, version, admin) for version in (versions[1], versions[0])],
    }


def is_up(url: str) -> bool:
    """Whether the web answers, and through it the engine."""
    import httpx

    with contextlib.suppress(httpx.TransportError):
        return httpx.get(f"{url}/readyz", trust_env=False).json()["engine"] == "ok"
    return False


def load(client: Client, clients: int, requests: int) -> tuple[int, float, float]:
    """Tokens, tokens a second of all clients together, and the median time to a first token in ms."""
    began = time.perf_counter()
    with ThreadPoolExecutor(clients) as pool:
        answers = list(pool.map(client.answer, range(clients * requests)))
    seconds = time.perf_counter() - began
    tokens = sum(tokens for tokens, _, _ in answers)
    return tokens, round(tokens / seconds, 1), round(1000 * statistics.median(first for _, first, _ in answers), 1)


def switch(client: Client, project: Any, version: Any, admin: Any) -> float:
    """Seconds from the promotion to the end of the first answer of one token that names the version."""
    from labelapp.rounds.promote import deployment_of, promote

    deployment = deployment_of(project)
    began = time.perf_counter()
    promote(deployment=deployment, version=version, by=admin, reason="bench", seen_epoch=deployment.epoch)
    until(lambda: client.answer(0, tokens=1)[2] == version.name)
    return round(time.perf_counter() - began, 3)


def until(true: Any, seconds: float = 120) -> None:
    end = time.monotonic() + seconds
    while not true():
        if time.monotonic() > end:
            raise TimeoutError("the servers did not get there")
        time.sleep(0.02)


class Client:
    """Asks as programs do, over HTTP with a stream."""

    def __init__(self, url: str, token: str) -> None:
        import httpx

        limits = httpx.Limits(max_connections=64)
        self.http = httpx.Client(
            base_url=url, headers={"Authorization": f"Bearer {token}"}, timeout=60, limits=limits, trust_env=False
        )
        self.topics = TOPICS.read_text().splitlines()

    def answer(self, number: int, tokens: int = NEW_TOKENS) -> tuple[int, float, str]:
        """Tokens of an answer, seconds to its first text, and its version; (0, ..., "") where none answers."""
        import httpx

        messages = [{"role": "user", "content": self.topics[number]}]
        body = {
            "model": "policy", "messages": messages, "max_tokens": tokens, "seed": number, "stream": True,
            "stream_options": {"include_usage": True},
        }  # fmt: skip
        began, first, usage, version = time.perf_counter(), 0.0, 0, ""
        asked = self.http.stream("POST", "/v1/chat/completions", json=body)
        with contextlib.suppress(httpx.TransportError), asked as response:
            for line in response.iter_lines() if response.is_success else ():
                chunk = json.loads(line[6:]) if line.startswith("data: {") else {"choices": []}
                version = chunk.get("system_fingerprint", version)
                if not first and chunk["choices"] and chunk["choices"][0]["delta"].get("content"):
                    first = time.perf_counter() - began
                usage = (chunk.get("usage") or {}).get("completion_tokens", usage)
        return usage, first or time.perf_counter() - began, version


if __name__ == "__main__":
    sys.exit(main())
