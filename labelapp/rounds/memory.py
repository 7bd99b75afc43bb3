"""How much memory a stage needs, from the checkpoint's shapes and the stage's settings; nothing is loaded for it."""

import json
import math
import struct
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

from alignment.config import CONFIGS, build

FP32 = 4  # bytes of a number: weights, gradients and moments
PROGRAM = 450 * 2**20  # Python with torch and transformers, before any model
MICRO_TOKENS = 4096  # of a pass on CPU; see alignment.data.batches
HELD_TOKENS = 16384  # of a step of reward; see alignment.models.scores
LOGIT_TOKENS = 4096  # whose logits exist at once
MEASURED_TOKENS = 4096  # of a pass that leaves nothing for a backward one
LOOKED_AT = 256  # rows
PARTS = ("prompt", "chosen", "rejected")
CHARACTERS = 3  # of a token: of the demo's small vocabulary 2.9; larger ones say more with each
ONLINE = {"online_dpo", "grpo", "ppo", "safe", "safe_ppo"}
# Models of the parent's size that a stage holds at once, and how many of them learn.
HELD = {
    "reward": (1, 1), "preference": (1, 1), "sft": (1, 1), "pretrain": (1, 1), "best_of_n": (2, 0), "generate": (1, 0),
    "evaluate": (3, 0), "audit": (1, 0), "online_dpo": (3, 1), "grpo": (3, 1), "ppo": (4, 2), "safe": (4, 1),
    "safe_ppo": (5, 2), "score": (3, 0),
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


def memory_of(shape: Shape, stage: str, config: dict[str, Any], *, row_tokens: float = 0) -> Memory:
    """Peak bytes of a stage on CPU: program + weights + gradients + AdamW's moments + activations of one pass.

    With P parameters, M models held and L of them learning (see HELD), T trained parameters (P, or those of the
    adapter), n tokens in a pass, w, i, d the width, inner width and depth, v the vocabulary, k logits at once:

        weights      4 M P        gradients  4 L T        moments  8 L T
        activations  4 n d (10 w + 4 i) + 4 * 3 k v

    A layer keeps about ten vectors of the width (norms, query, key, value, attention, residuals) and four of the inner
    width for its backward pass; an adapter's own products about as many again. With activation checkpointing it is one
    vector of the width a layer, and the rest of one layer; in a stage that learns nothing, of one layer alone. A reward
    model has no logits. An adapter in an online stage stands on the policy, which is then the reference too.

    Args:
        row_tokens: of a training row, both answers and the prompt once; 0: as long as the settings allow.

    Source: Korthikanti et al. 2022, arXiv:2205.05198, eq. 2, for a gated feed-forward part without attention matrices;
    checked against measured peaks in tests/rounds/test_memory.py and docs/rounds.md.
    """
    built = build(CONFIGS[stage], config)
    held, learning = HELD[stage]
    lora, plan = getattr(built, "lora", None), getattr(built, "optimization", None)
    trained = shape.adapter_parameters * lora.rank if lora else shape.parameters
    most = HELD_TOKENS if stage == "reward" else MICRO_TOKENS
    tokens = min(most, tokens_of_step(built, shape, row_tokens)) if learning else MEASURED_TOKENS
    return Memory(
        program=PROGRAM,
        weights=FP32 * (held - (1 if lora and stage in ONLINE else 0)) * shape.parameters,
        gradients=FP32 * learning * trained,
        moments=2 * FP32 * learning * trained,
        activations=(2 if lora else 1) * layer_bytes(shape, tokens, layers_kept(shape, learning, plan))
        + (0 if stage == "reward" else 3 * FP32 * min(tokens, LOGIT_TOKENS) * shape.vocabulary),
    )


def layers_kept(shape: Shape, learning: int, plan: Any) -> float:
    """Layers whose parts are held at once, of every model that learns."""
    if not learning:
        return 1
    part = shape.width / (10 * shape.width + 4 * shape.inner)
    return learning * (1 + shape.depth * part if plan.activation_checkpointing else shape.depth)


def layer_bytes(shape: Shape, tokens: float, layers: float) -> int:
    return math.ceil(FP32 * tokens * layers * (10 * shape.width + 4 * shape.inner))


def tokens_of_step(config: Any, shape: Shape, row_tokens: float) -> float:
    """Of an optimizer step: rows of the data, or answers that the policy has just written."""
    rows = config.optimization.batch_size
    if hasattr(config, "sampling"):
        return rows * min(config.sampling.max_new_tokens, shape.context)
    longest = 2 * min(getattr(config, "max_length", shape.context), shape.context)
    return rows * min(row_tokens or longest, longest)


def mean_row_tokens(pairs: str | Path) -> float:
    """Of the first rows of a pairs file: characters of the prompt and both answers, as tokens."""
    with open(pairs) as lines:
        rows = [json.loads(line) for line in islice(lines, LOOKED_AT)]
    texts = [len(turn["content"]) for row in rows for part in PARTS for turn in row.get(part, [])]
    return sum(texts) / max(1, len(rows)) / CHARACTERS


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
