"""An OpenAI-compatible server of our own: it streams what a test says, at the pace the test sets, and misbehaves."""

import json
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import count

PIECES = ("Because ", "of ", "reason ", "{n}.")


class Upstream(ThreadingHTTPServer):
    """chunks: what a model says, piece by piece. gates: models that wait after their first piece until they may go on.
    trouble: models that fail, hang, redirect, break off or say nothing. asked: (model, body, headers) of every request.
    """

    daemon_threads = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.chunks: dict[str, tuple[str, ...]] = {}
        self.gates: dict[str, threading.Event] = {}
        self.trouble: dict[str, str] = {}
        self.asked: list[tuple[str, dict, dict]] = []
        self.hung_up: list[str] = []
        self.closing = threading.Event()
        self.number = count(1)
        threading.Thread(target=self.serve_forever, daemon=True).start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/v1"

    def gate(self, model: str) -> Callable[[], None]:
        """Let the model wait after its first piece; call what is returned to let it go on."""
        self.gates[model] = threading.Event()
        return self.gates[model].set

    def stop(self) -> None:
        self.closing.set()
        self.shutdown()
        self.server_close()

    def handle_error(self, request, client_address) -> None:
        pass  # whoever hangs up on purpose is noted, and needs no traceback


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Upstream

    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        model = body["model"]
        self.server.asked.append((model, body, dict(self.headers)))
        trouble = self.server.trouble.get(model)
        if trouble == "fail":
            return self.refuse(500, b'{"error": {"message": "out of memory"}}')
        if trouble == "redirect":
            return self.refuse(302, b"", Location=f"http://127.0.0.1:{self.server.server_address[1]}/v1/secret")
        if trouble == "hang":
            return self.server.closing.wait(60)
        self.stream(model, trouble)

    def do_GET(self):
        self.server.asked.append(("redirected", {}, {}))
        self.refuse(200, b"secret")

    def refuse(self, status: int, body: bytes, **headers: str) -> None:
        self.send_response(status)
        for name, value in {"Content-Length": str(len(body)), **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def stream(self, model: str, trouble: str | None) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.send_header("Connection", "close")
        self.end_headers()
        try:
            self.say(model, trouble)
        except (BrokenPipeError, ConnectionResetError):
            self.server.hung_up.append(model)
        self.close_connection = True

    def say(self, model: str, trouble: str | None) -> None:
        pieces = self.server.chunks.get(model, PIECES) if trouble != "empty" else ()
        n = next(self.server.number)
        for number, piece in enumerate(pieces):
            if number == 1 and (trouble == "break" or not self.may_go_on(model)):
                return
            self.event({"choices": [{"index": 0, "delta": {"content": piece.format(n=n)}}]})
        self.event({"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]})
        self.wfile.write(b"data: [DONE]\n\n")

    def may_go_on(self, model: str) -> bool:
        gate = self.server.gates.get(model)
        while gate and not gate.wait(0.05):
            if self.server.closing.is_set():
                return False
            self.wfile.write(b": wait\n\n")
            self.wfile.flush()
        return True

    def event(self, chunk: dict) -> None:
        self.wfile.write(f"data: {json.dumps(chunk)}\n\n".encode())
        self.wfile.flush()

    def log_message(self, *words) -> None:
        pass
