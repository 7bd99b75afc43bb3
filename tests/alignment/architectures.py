"""Random models of a few thousand weights in the shapes of well-known families, as any Hugging Face directory."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from transformers import (
    AutoModelForCausalLM,
    Gemma3TextConfig,
    GPT2Config,
    LlamaConfig,
    PretrainedConfig,
    Qwen2Config,
)

from tests.tiny_models import tiny_tokenizer

SIZE = {"vocab_size": 300, "bos_token_id": None, "eos_token_id": 1, "pad_token_id": 0}
DECODER = {
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 256,
    **SIZE,
}

CONFIGS: dict[str, PretrainedConfig] = {
    "llama": LlamaConfig(**DECODER, tie_word_embeddings=False),
    "qwen2": Qwen2Config(**{**DECODER, "vocab_size": 320}, tie_word_embeddings=True),  # has rows to spare, as theirs
    "gpt2": GPT2Config(n_embd=32, n_layer=2, n_head=4, n_positions=256, attn_pdrop=0.1, resid_pdrop=0.1, **SIZE),
    "gemma3": Gemma3TextConfig(**DECODER, head_dim=8, sliding_window=16, query_pre_attn_scalar=8),
}


def random_model(family: str, seed: int = 0) -> Any:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return AutoModelForCausalLM.from_config(CONFIGS[family])


def write_model(family: str, directory: Path, seed: int = 0, **how: Any) -> Path:
    """A directory as the hub has it: config, weights and tokenizer, without card or manifest."""
    random_model(family, seed).save_pretrained(directory, **how)
    tiny_tokenizer().save_pretrained(directory)
    return directory
