"""How much memory a stage needs, from the checkpoint's shapes and the stage's settings; nothing is loaded for it."""

import json
import math
import struct
from pathlib import Path
from typing import Any, NamedTuple

from alignment.config import CONFIGS, build

FP32 = 4  # bytes of a number: weights, gradients and moments
PROGRAM = 450 * 2**20  # Python with torch and transformers, before any model
MICRO_TOKENS = 16384  # of a pass; see alignment.models.scores
LOGIT_TOKENS = 4096  # whose logits exist at once
ONLINE = {"online_dpo", "grpo", "ppo", "safe", "safe_ppo"}
# Models of the parent's size that a stage holds at once, and how many of them learn.
HELD = {
    "reward": (1, 1), "preference": (1, 1), "sft": (1, 1), "pretrain": (1, 1), "best_of_n": (2, 0), "generate": (1, 0),
    "evaluate": (3, 0), "audit": (1, 0), "online_dpo": (3, 1), "grpo": (3, 1), "ppo": (4, 2), "safe": (4, 1),
    "safe_ppo": (5, 2),
}  # fmt: skip


class Shape(NamedTuple):
    """A checkpoint's size: parameters, those a LoRA adapter of rank 1 would add, and what a pass is made of."""

    parameters: int
    adapter_parameters: int
    width: int
    inner: int
    depth: int
    vocabulary: int
    context: int


class Memory(NamedTuple):
    """Bytes of one stage, by what they are for."""

    program: int
    weights: int
    gradients: int
    moments: int
    activations: int

    @property
    def total(self) -> int:
        return sum(self)


def memory_of(shape: Shape, stage: str, config: dict[str, Any]) -> Memory:
    """Peak bytes of a stage: program + weights + gradients + AdamW's moments + activations of one pass.

    With P parameters, M models held and L of them learning (see HELD), T trained parameters (P, or those of the
    adapter), n tokens in a pass, w, i, d the width, inner width and depth, v the vocabulary, k logits at once:

        weights      4 M P        gradients  4 L T        moments  8 L T
        activations  4 n d (10 w + 4 i) + 4 * 3 k v for a stage that learns; of one layer for a stage that does not

    A layer keeps about ten vectors of the width (norms, query, key, value, attention, residuals) and four of the inner
    width for its backward pass; with activation checkpointing one of the width, and one layer's rest. An adapter in an
    online stage stands on the policy itself, which then is the reference too.

    Source: Korthikanti et al. 2022, arXiv:2205.05198, eq. 2, for a gated feed-forward part without attention matrices;
    checked against measured peaks in tests/rounds/test_memory.py and docs/rounds.md.
    """
    built = build(CONFIGS[stage], config)
    held, learning = HELD[stage]
    lora, plan = getattr(built, "lora", None), getattr(built, "optimization", None)
    trained = shape.adapter_parameters * lora.rank if lora else shape.parameters
    held -= 1 if lora and stage in ONLINE else 0
    tokens = min(MICRO_TOKENS, tokens_of_step(built, shape))
    return Memory(
        program=PROGRAM,
        weights=FP32 * held * shape.parameters,
        gradients=FP32 * learning * trained,
        moments=2 * FP32 * learning * trained,
        activations=activations(shape, tokens, layers=layers_kept(shape, learning, plan)),
    )


def layers_kept(shape: Shape, learning: int, plan: Any) -> float:
    """Layers whose parts are held at once."""
    if not learning or plan is None:
        return 1
    part = shape.width / (10 * shape.width + 4 * shape.inner)
    return 1 + shape.depth * part if plan.activation_checkpointing else shape.depth


def activations(shape: Shape, tokens: int, *, layers: float) -> int:
    body = FP32 * tokens * layers * (10 * shape.width + 4 * shape.inner)
    return math.ceil(body + 3 * FP32 * min(tokens, LOGIT_TOKENS) * shape.vocabulary)


def tokens_of_step(config: Any, shape: Shape) -> int:
    """The tokens of an optimizer step, or of a batch of answers, if every text were as long as it may be."""
    rows = config.optimization.batch_size if hasattr(config, "optimization") else getattr(config, "batch_size", 16)
    longest = min(getattr(config, "max_length", shape.context), shape.context)
    return max(1, 2 * rows * longest)


def shape_of(checkpoint: str | Path) -> Shape:
    """From config.json and the headers of the safetensors files. Raises OSError, ValueError or KeyError."""
    folder = Path(checkpoint)
    config = json.loads((folder / "config.json").read_text())
    shapes = [shape for file in sorted(folder.glob("*.safetensors")) for shape in tensor_shapes(file)]
    width, vocabulary = first(config, "hidden_size", "n_embd", "d_model"), config["vocab_size"]
    matrices = [shape for shape in shapes if len(shape) == 2 and vocabulary not in shape]
    return Shape(
        parameters=sum(math.prod(shape) for shape in shapes),
        adapter_parameters=sum(sum(shape) for shape in matrices),
        width=width,
        inner=first(config, "intermediate_size", "n_inner", "ffn_dim", otherwise=4 * width),
        depth=first(config, "num_hidden_layers", "n_layer"),
        vocabulary=vocabulary,
        context=first(config, "max_position_embeddings", "n_positions", otherwise=512),
    )


def first(config: dict[str, Any], *names: str, otherwise: int | None = None) -> int:
    """What a family of models calls one thing. Raises KeyError."""
    found = next((config[name] for name in names if config.get(name)), otherwise)
    if found is None:
        raise KeyError(names[0])
    return found


def tensor_shapes(file: Path) -> list[list[int]]:
    """The shapes in a safetensors file: its first 8 bytes say how long the JSON is that follows them."""
    with open(file, "rb") as stream:
        (length,) = struct.unpack("<Q", stream.read(8))
        header = json.loads(stream.read(length))
    return [entry["shape"] for name, entry in header.items() if name != "__metadata__"]
