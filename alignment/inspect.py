"""The stage `inspect`: whether a directory is a policy or a reward model that the other stages can use, and its size.

Input: model. It is loaded as training loads it, so what would stop a round later is said now.
"""

from __future__ import annotations

from typing import Any

from transformers import PreTrainedModel, PreTrainedTokenizerBase

from alignment.config import InspectConfig, Job, JobError
from alignment.data.text import demand_prefixes, load_tokenizer
from alignment.models.checkpoints import load_policy, load_reward


def run(job: Job, config: InspectConfig) -> dict[str, Any]:
    """Load the model and its tokenizer, and say their sizes. Nothing is written but the result."""
    path = job.input_path("model")
    tokenizer = load_tokenizer(path)
    demand_prefixes(tokenizer)
    model = load_policy(path) if config.kind == "policy" else load_reward(path)
    demand_room(model, tokenizer)
    return {"checkpoint": None, "metrics": sizes(model, tokenizer)}


def demand_room(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> None:
    """Raise JobError for a tokenizer that writes tokens which the model does not know."""
    known = model.get_input_embeddings().weight.shape[0]
    if len(tokenizer) > known:
        raise JobError(f"the tokenizer has {len(tokenizer)} tokens and the model {known}; use the model's own")


def sizes(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> list[dict[str, Any]]:
    found = {
        "parameters": (model.num_parameters(), "weights"),
        "context": (getattr(model.config.get_text_config(), "max_position_embeddings", 0), "tokens"),
        "vocabulary": (len(tokenizer), "tokens"),
    }
    return [{"key": key, "value": value, "n": 1, "unit": unit} for key, (value, unit) in found.items()]
