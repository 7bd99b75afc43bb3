"""What may be asked of /v1: every field of the two POST routes, its range, and the refusal that names it.

Follows the OpenAI API (openai-openapi, spec 2.3.0) with the extra sampling fields of vLLM.
"""

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

from labelapp.serving.errors import invalid, unsupported

MAX_CHOICES = 16  # n; the specification allows 128, an engine on a CPU does not
MAX_ROWS = 64  # prompts times n in one request
MAX_STOPS, MAX_STOP_LENGTH = 4, 200
MAX_SEED = 2**63 - 1
ROLES = {"system": "system", "developer": "system", "user": "user", "assistant": "assistant", "tool": "user"}

# Accepted because clients send them, and harmless to leave unused: they ask for nothing that changes an answer.
IGNORED = {
    "user", "metadata", "store", "service_tier", "safety_identifier", "prompt_cache_key", "parallel_tool_calls"
}  # fmt: skip
# Refused unless they ask for nothing.
NOTHING_ASKED: dict[str, tuple] = {
    "tools": (None, []),
    "tool_choice": (None, "none", "auto"),
    "functions": (None, []),
    "function_call": (None, "none", "auto"),
    "response_format": (None, {"type": "text"}),
    "modalities": (None, ["text"]),
    "suffix": (None, ""),
    "best_of": (None, 1),
}


@dataclass(frozen=True)
class Sampling:
    """How rows are sampled; what the engine reads. `logprobs` counts the alternatives, None asks for none at all."""

    max_tokens: int | None = None
    temperature: float = 1.0
    top_p: float = 1.0
    top_k: int = 0
    min_p: float = 0.0
    repetition_penalty: float = 1.0
    presence_penalty: float = 0.0
    frequency_penalty: float = 0.0
    logit_bias: dict[str, float] | None = None
    seed: int | None = None
    stop: tuple[str, ...] = ()
    logprobs: int | None = None
    echo: bool = False


@dataclass(frozen=True)
class Ask:
    """One validated request. A prompt is a list of messages, a text, or a list of token ids."""

    model: str
    prompts: list[dict[str, Any]]
    n: int
    sampling: Sampling
    stream: bool
    include_usage: bool

    def for_engine(self, digest: str) -> dict[str, Any]:
        return {"version": digest, "prompts": self.prompts, "n": self.n, "sampling": asdict(self.sampling)}


def parse_chat(body: dict[str, Any]) -> Ask:
    """A /v1/chat/completions body. Raises ApiError 400 naming the field."""
    fields = Fields(body)
    prompt = {"messages": messages(fields)}
    limit = fields.integer("max_completion_tokens", 1, 10**6)
    older_limit = fields.integer("max_tokens", 1, 10**6)
    wanted, alternatives = fields.flag("logprobs"), fields.integer("top_logprobs", 0, 20)
    if alternatives is not None and not wanted:
        raise invalid("top_logprobs", "top_logprobs needs logprobs to be true.")
    return finish(
        fields,
        [prompt],
        max_tokens=older_limit if limit is None else limit,
        logprobs=(alternatives or 0) if wanted else None,
    )


def parse_completion(body: dict[str, Any]) -> Ask:
    """A /v1/completions body; max_tokens is 16 by default, and may be 0 to score an echoed prompt. Raises ApiError."""
    fields = Fields(body)
    prompts = texts(fields)
    echo = fields.flag("echo")
    limit = fields.integer("max_tokens", 0 if echo else 1, 10**6)
    return finish(
        fields,
        prompts,
        max_tokens=16 if limit is None else limit,
        logprobs=fields.integer("logprobs", 0, 20),
        echo=echo,
    )


def finish(fields: "Fields", prompts: list[dict[str, Any]], **sampling: Any) -> Ask:
    """What both routes share. Last, every field nobody asked for by name must be known."""
    n = fields.integer("n", 1, MAX_CHOICES, default=1)
    if len(prompts) * n > MAX_ROWS:
        raise invalid("prompt", f"{len(prompts)} prompts times n={n} is more than {MAX_ROWS} answers; send fewer.")
    stream = fields.flag("stream")
    ask = Ask(
        model=model(fields),
        prompts=prompts,
        n=n,
        stream=stream,
        include_usage=include_usage(fields, stream),
        sampling=Sampling(
            temperature=fields.number("temperature", 0, 2, default=1.0),
            top_p=fields.number("top_p", 0, 1, default=1.0),
            top_k=fields.integer("top_k", -1, 10**6, default=0),
            min_p=fields.number("min_p", 0, 1, default=0.0),
            repetition_penalty=fields.number("repetition_penalty", 0.01, 10, default=1.0),
            presence_penalty=fields.number("presence_penalty", -2, 2, default=0.0),
            frequency_penalty=fields.number("frequency_penalty", -2, 2, default=0.0),
            logit_bias=logit_bias(fields),
            seed=fields.integer("seed", -MAX_SEED, MAX_SEED),
            stop=stops(fields),
            **sampling,
        ),
    )
    fields.refuse_the_rest()
    return ask


class Fields:
    """A body's fields, read by name; null counts as absent, as in the OpenAI API."""

    def __init__(self, body: dict[str, Any]) -> None:
        self.body, self.seen = body, set()

    def get(self, name: str) -> Any:
        self.seen.add(name)
        return self.body.get(name)

    def read(self, name: str, default: Any, fits: Callable[[Any], bool], expected: str) -> Any:
        value = self.get(name)
        if value is None:
            return default
        if not fits(value):
            raise invalid(name, f"{name} must be {expected}, not {show(value)}.")
        return value

    def number(self, name: str, low: float, high: float, *, default: float) -> float:
        return float(
            self.read(name, default, lambda v: is_number(v) and low <= v <= high, f"a number from {low} to {high}")
        )

    def integer(self, name: str, low: int, high: int, *, default: int | None = None) -> int | None:
        return self.read(
            name, default, lambda v: is_integer(v) and low <= v <= high, f"an integer from {low} to {high}"
        )

    def flag(self, name: str) -> bool:
        return self.read(name, False, lambda v: isinstance(v, bool), "true or false")

    def refuse_the_rest(self) -> None:
        for name in self.body.keys() - self.seen - IGNORED:
            if not any(is_same(self.body[name], nothing) for nothing in NOTHING_ASKED.get(name, (None,))):
                raise unsupported(name[:80])


def show(value: Any) -> str:
    """A value as an error may quote it."""
    return json.dumps(value, ensure_ascii=False)[:80]


def is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def is_integer(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def is_same(value: Any, nothing: Any) -> bool:
    return type(value) is type(nothing) and value == nothing


def model(fields: Fields) -> str:
    value = fields.get("model")
    if value is None:
        raise invalid("model", "model is missing; name one that GET /v1/models lists.", "missing_required_parameter")
    if not isinstance(value, str) or not value:
        raise invalid("model", f"model must be a string, not {show(value)}.")
    return value


def messages(fields: Fields) -> list[dict[str, str]]:
    """Turns with plain roles: a developer speaks as the system, a tool as the user."""
    value = fields.get("messages")
    if value is None:
        raise invalid("messages", "messages is missing.", "missing_required_parameter")
    if not isinstance(value, list) or not value:
        raise invalid("messages", "messages must be a list with at least one message.")
    return [one_message(f"messages[{index}]", item) for index, item in enumerate(value)]


def one_message(place: str, item: Any) -> dict[str, str]:
    if not isinstance(item, dict):
        raise invalid(place, f"{place} must be an object, not {show(item)}.")
    role = item.get("role")
    if not isinstance(role, str) or role not in ROLES:
        raise invalid(f"{place}.role", f"{place}.role must be one of {', '.join(ROLES)}, not {show(role)}.")
    for name in ("tool_calls", "function_call", "audio"):
        if item.get(name):
            raise unsupported(f"{place}.{name}")
    return {"role": ROLES[role], "content": content(f"{place}.content", item.get("content"))}


def content(place: str, value: Any) -> str:
    """A string, or the joined texts of a list of text parts."""
    if isinstance(value, str):
        return value
    if not isinstance(value, list) or not value:
        raise invalid(place, f"{place} must be a string or a list of text parts, not {show(value)}.")
    return "".join(text_part(f"{place}[{index}]", part) for index, part in enumerate(value))


def text_part(place: str, part: Any) -> str:
    if isinstance(part, dict) and part.get("type") == "text" and isinstance(part.get("text"), str):
        return part["text"]
    raise invalid(place, f'{place} must be {{"type": "text", "text": "..."}}, not {show(part)}.')


def texts(fields: Fields) -> list[dict[str, Any]]:
    """prompt as a list of prompts: a string, token ids, or a list of either."""
    value = fields.get("prompt")
    if value is None:
        raise invalid("prompt", "prompt is missing.", "missing_required_parameter")
    if isinstance(value, str) or is_ids(value):
        value = [value]
    if not isinstance(value, list) or not value or not all(isinstance(p, str) or is_ids(p) for p in value):
        raise invalid("prompt", "prompt must be a string, a list of strings, or a list of token ids.")
    return [{"text": p} if isinstance(p, str) else {"ids": p} for p in value]


def is_ids(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(is_integer(v) and v >= 0 for v in value)


def stops(fields: Fields) -> tuple[str, ...]:
    value = fields.get("stop")
    found = [value] if isinstance(value, str) else value or []
    if not isinstance(found, list) or len(found) > MAX_STOPS:
        raise invalid("stop", f"stop must be a string or a list of at most {MAX_STOPS} strings.")
    if not all(isinstance(s, str) and 0 < len(s) <= MAX_STOP_LENGTH for s in found):
        raise invalid("stop", f"each stop must be a string of 1 to {MAX_STOP_LENGTH} characters.")
    return tuple(found)


def logit_bias(fields: Fields) -> dict[str, float] | None:
    value = fields.get("logit_bias")
    if not value and value in (None, {}):
        return None
    if not isinstance(value, dict) or len(value) > 1024:
        raise invalid("logit_bias", "logit_bias must be an object of at most 1024 token ids.")
    for token, bias in value.items():
        if not (token.isascii() and token.isdigit() and len(token) < 9 and is_number(bias) and -100 <= bias <= 100):
            raise invalid("logit_bias", "logit_bias maps token ids to numbers from -100 to 100.")
    return {token: float(bias) for token, bias in value.items()}


def include_usage(fields: Fields, stream: bool) -> bool:
    value = fields.get("stream_options")
    if value is None:
        return False
    if not isinstance(value, dict):
        raise invalid("stream_options", f"stream_options must be an object, not {show(value)}.")
    if not stream:
        raise invalid("stream_options", "stream_options needs stream to be true.")
    options = Fields(value)
    asked = options.flag("include_usage")
    if options.body.keys() - {"include_usage", "include_obfuscation"}:
        raise unsupported("stream_options." + next(iter(options.body.keys() - {"include_usage"})))
    return asked
