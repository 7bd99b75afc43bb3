"""A stand-in for a model hub on this machine: the few endpoints that huggingface_hub asks for, over real HTTP."""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote, urlsplit

COMMIT = "c0ffee" + "0" * 34


class Hub(BaseHTTPRequestHandler):
    """One repository, org/name, with the files of a directory, at the branch main and the tag v1."""

    files: Path
    asked: list[str]

    def do_HEAD(self) -> None:
        self.answer()

    def do_GET(self) -> None:
        self.answer()

    def answer(self) -> None:
        path = unquote(urlsplit(self.path).path)
        self.asked.append(path)
        if path.startswith("/api/models/org/name"):
            self.tell(path.removeprefix("/api/models/org/name"))
        elif path.startswith(f"/org/name/resolve/{COMMIT}/"):
            self.give(self.files / path.removeprefix(f"/org/name/resolve/{COMMIT}/"))
        else:
            self.refuse("RepoNotFound")

    def tell(self, rest: str) -> None:
        """About a revision, or the files of one."""
        word, revision = (rest.strip("/").split("/") + [""])[:2]
        if revision not in {"main", "v1", COMMIT}:
            self.refuse("RevisionNotFound")
        elif word == "tree":
            self.send([entry(path) for path in self.listed()])
        else:
            named = [{"rfilename": path.name} for path in self.listed()]
            self.send({"id": "org/name", "modelId": "org/name", "sha": COMMIT, "siblings": named})

    def listed(self) -> list[Path]:
        return sorted(path for path in self.files.iterdir() if path.is_file())

    def send(self, facts: object) -> None:
        self.reply(json.dumps(facts).encode(), "application/json")

    def give(self, path: Path) -> None:
        if path.is_file():
            self.reply(path.read_bytes(), "application/octet-stream", ETag=f'"{digest(path)}"')
        else:
            self.refuse("EntryNotFound")

    def reply(self, body: bytes, kind: str, **headers: str) -> None:
        self.send_response(200)
        facts = {"Content-Type": kind, "Content-Length": str(len(body)), "X-Repo-Commit": COMMIT, **headers}
        for name, value in facts.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(body)

    def refuse(self, code: str) -> None:
        self.send_response(404)
        self.send_header("X-Error-Code", code)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        pass


def entry(path: Path) -> dict[str, object]:
    return {"type": "file", "path": path.name, "size": path.stat().st_size, "oid": digest(path)}


def digest(path: Path) -> str:
    return hashlib.sha1(path.read_bytes()).hexdigest()


@contextmanager
def hub_of(files: Path) -> Iterator[tuple[str, list[str]]]:
    """(address, paths asked for so far) of a running hub."""
    handler = type("HubOf", (Hub,), {"files": files, "asked": []})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", handler.asked
    finally:
        server.shutdown()
        server.server_close()
