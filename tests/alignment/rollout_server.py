"""A stand-in for vLLM in a process of its own: the paths that the trainer asks, with transformers behind them.

It holds a tiny model that it loads from whatever directory it is pointed at, and samples with transformers' `generate`
and peft: nothing of our sampler or our log-probabilities is in it. It lies when it is told to, through POST /lie.

    python rollout_server.py MODEL     prints its port and serves until it is killed
"""

from __future__ import annotations

import json
import os
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import torch
from peft import PeftModel
from transformers import AutoModelForCausalLM

LIES = {
    "ignore_reload": False,  # says that it loaded weights, under their name, and keeps the older ones
    "keep_version": False,  # does so too, and reports the older name
    "no_logprobs": False,
    "no_token_ids": False,
    "no_prompt_logprobs": False,
    "raw_logprobs": False,  # those of temperature 1, as vLLM's default logprobs-mode gives them
    "other_model": False,  # answers under another name
    "wrong_end": False,  # ends completions at a token that is not the end token
    "old_vllm": False,  # has no paths for versions
    "no_dev_mode": False,
    "no_lora": False,
    "slow": 0.0,  # seconds before each answer
    "dies_after": 0,  # completion requests
    "refuses": 0,  # completion requests that fail with status 500 first
    "forgets": 0,  # completion requests after which it is as if started again
    "break_off": 0,  # completions that end with "abort" first
}


class Refused(Exception):
    """An answer that is no success."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


class Engine:
    """The model, the adapters it was given, and what was asked of it."""

    def __init__(self, path: str) -> None:
        self.path, self.lock = path, threading.RLock()
        self.reset()

    def reset(self) -> None:
        """As if nobody had asked anything yet."""
        self.lies = dict(LIES)
        self.asked: list[str] = []
        self.requests: list[dict[str, Any]] = []
        self.asleep, self.completed = False, 0
        self.start()

    def start(self) -> None:
        """With the weights that the process was started with."""
        self.model = load(self.path)
        self.version = "default"
        self.adapters: dict[str, Any] = {}

    def reload(self, path: str) -> None:
        if not (self.lies["ignore_reload"] or self.lies["keep_version"]):
            self.model = load(path)

    def named(self, name: str) -> Any:
        if name == "policy":
            return self.model
        if name not in self.adapters:
            raise Refused(404, f"The model `{name}` does not exist.")
        return self.adapters[name]

    def load_adapter(self, name: str, path: str) -> None:
        if name in self.adapters:
            raise Refused(400, f"The lora adapter '{name}' has already been loaded.")
        held = next(iter(self.adapters.values()), None)
        stale = self.lies["ignore_reload"] and held is not None
        self.adapters[name] = held if stale else PeftModel.from_pretrained(load(self.path), path).eval()

    @torch.no_grad()
    def complete(self, body: dict[str, Any]) -> dict[str, Any]:
        if self.asleep:
            raise Refused(500, "the engine sleeps")
        model, prompt = self.named(body["model"]), torch.tensor([body["prompt"]])
        choices = self.choices(model, prompt, body)
        if body.get("prompt_logprobs") is not None and not self.lies["no_prompt_logprobs"]:
            choices[0]["prompt_logprobs"] = prompt_logprobs(model, prompt)
        return {"model": "other" if self.lies["other_model"] else body["model"], "choices": choices[::-1]}

    def choices(self, model: Any, prompt: torch.Tensor, body: dict[str, Any]) -> list[dict[str, Any]]:
        torch.manual_seed(body.get("seed", 0))
        ends = body.get("stop_token_ids") or [model.config.eos_token_id]
        ends = [*ends, *range(10, 60)] if self.lies["wrong_end"] else ends
        made = model.generate(
            input_ids=prompt, attention_mask=torch.ones_like(prompt), do_sample=True, temperature=body["temperature"],
            top_k=0, top_p=1.0, max_new_tokens=body["max_tokens"], eos_token_id=ends, return_dict_in_generate=True,
            output_logits=True, pad_token_id=model.config.pad_token_id, num_return_sequences=body.get("n", 1),
        )  # fmt: skip
        heat = 1.0 if self.lies["raw_logprobs"] else body["temperature"]
        shares = torch.log_softmax(torch.stack(made.logits, 1) / heat, -1)
        rows = made.sequences[:, prompt.shape[1] :].tolist()
        return [self.choice(i, row, shares[i], ends, body) for i, row in enumerate(rows)]

    def choice(
        self, index: int, row: list[int], shares: torch.Tensor, ends: list[int], body: dict[str, Any]
    ) -> dict[str, Any]:
        length = next((place + 1 for place, token in enumerate(row) if token in ends), len(row))
        ids = row[:length]  # behind an end there is only padding
        told = [shares[place, token].item() for place, token in enumerate(ids)]
        reason = "stop" if ids[-1] in ends else "length"
        if self.lies["break_off"]:
            self.lies["break_off"] -= 1
            reason = "abort"
        choice = {"index": index, "text": "", "finish_reason": reason, "logprobs": {"token_logprobs": told}}
        if body.get("return_token_ids") and not self.lies["no_token_ids"]:
            choice["token_ids"] = ids
        if self.lies["no_logprobs"]:
            choice["logprobs"] = None
        return choice


def load(path: str) -> Any:
    return AutoModelForCausalLM.from_pretrained(path, dtype=torch.float32, local_files_only=True).eval()


def prompt_logprobs(model: Any, prompt: torch.Tensor) -> list[dict[str, Any] | None]:
    shares = torch.log_softmax(model(input_ids=prompt).logits[0], -1)
    places = [{str(t): {"logprob": shares[i, t].item(), "rank": 1}} for i, t in enumerate(prompt[0, 1:].tolist())]
    return [None, *places]


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        self.answer({})

    def do_POST(self) -> None:
        self.answer(json.loads(self.rfile.read(int(self.headers.get("Content-Length") or 0)) or b"{}"))

    def answer(self, body: dict[str, Any]) -> None:
        engine: Engine = self.server.engine
        try:
            with engine.lock:
                status, said = 200, self.route(engine, self.path, body)
        except Refused as error:
            status, said = error.status, {"error": {"message": str(error)}}
        content = said.encode() if isinstance(said, str) else json.dumps(said).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def route(self, engine: Engine, path: str, body: dict[str, Any]) -> Any:
        lies = engine.lies
        if path == "/health":
            return ""
        if path == "/reset":
            return engine.reset() or {}
        if path == "/lie":
            return lies.update(body) or {}
        if path == "/asked":
            return {"asked": engine.asked, "requests": engine.requests, "asleep": engine.asleep,
                    "adapters": list(engine.adapters)}  # fmt: skip
        engine.asked.append(path)
        engine.requests.append({**body, "authorization": self.headers.get("Authorization")})
        time.sleep(lies["slow"])
        if path == "/v1/completions":
            return self.completions(engine, body)
        if "lora" in path and not lies["no_lora"]:
            return self.adapters(engine, path, body)
        if not lies["no_dev_mode"]:
            return self.development(engine, path, body)
        raise Refused(404, "Not Found")

    def completions(self, engine: Engine, body: dict[str, Any]) -> dict[str, Any]:
        lies, sampling = engine.lies, body.get("prompt_logprobs") is None
        if sampling and lies["refuses"]:
            lies["refuses"] -= 1
            raise Refused(500, "EngineCore encountered an issue")
        engine.completed += sampling
        if lies["dies_after"] and engine.completed > lies["dies_after"]:
            os._exit(1)
        said = engine.complete(body)
        if lies["forgets"] and engine.completed >= lies["forgets"]:
            lies["forgets"] = 0
            engine.start()
        return said

    def adapters(self, engine: Engine, path: str, body: dict[str, Any]) -> str:
        name = body["lora_name"]
        if path == "/v1/load_lora_adapter":
            engine.load_adapter(name, body["lora_path"])
            return f"Success: LoRA adapter '{name}' added successfully."
        if engine.adapters.pop(name, None) is None:
            raise Refused(404, f"The lora adapter '{name}' cannot be found.")
        return f"Success: LoRA adapter '{name}' removed successfully."

    def development(self, engine: Engine, path: str, body: dict[str, Any]) -> Any:
        if path == "/collective_rpc" and body["method"] == "reload_weights":
            engine.reload(body["kwargs"]["weights_path"])
            return {"results": [None]}
        if path == "/update_weight_version" and not engine.lies["old_vllm"]:
            if not engine.lies["keep_version"]:
                engine.version = body["new_version"]
            return {"success": True}
        if path == "/weight_info" and not engine.lies["old_vllm"]:
            return {"weight_version": engine.version}
        if path in {"/sleep?level=1", "/wake_up"}:
            engine.asleep = path != "/wake_up"
            return ""
        if path == "/reset_prefix_cache":
            return ""
        raise Refused(404, "Not Found")

    def log_message(self, *_: Any) -> None:
        pass


class Server(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, path: str, port: int) -> None:
        super().__init__(("127.0.0.1", port), Handler)
        self.engine = Engine(path)


if __name__ == "__main__":
    torch.set_num_threads(1)
    served = Server(sys.argv[1], int(sys.argv[2]) if len(sys.argv) > 2 else 0)
    print(served.server_address[1], flush=True)
    served.serve_forever()
