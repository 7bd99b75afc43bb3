"""Stand-ins for vLLM, started and stopped for a test."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import httpx

SCRIPT = Path(__file__).with_name("rollout_server.py")


class StandIn:
    """One process of rollout_server.py."""

    def __init__(self, model: str, port: int = 0) -> None:
        command = [sys.executable, str(SCRIPT), model, str(port)]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        self.port = int(self.process.stdout.readline())
        self.url = f"http://127.0.0.1:{self.port}"

    def reset(self) -> None:
        httpx.post(f"{self.url}/reset", json={}, timeout=60).raise_for_status()

    def lie(self, **lies: Any) -> None:
        httpx.post(f"{self.url}/lie", json=lies, timeout=60).raise_for_status()

    def told(self) -> dict[str, Any]:
        """What it was asked, and what it holds."""
        return httpx.post(f"{self.url}/asked", json={}, timeout=60).json()

    def stop(self) -> None:
        self.process.kill()
        self.process.wait()
        self.process.stdout.close()
