"""The stage `tokenizer`: byte-level byte-pair encoding learnt from plain text, with our control tokens and template.

No input. The directory it writes is the input `tokenizer` of `pretrain`. Source: Sennrich et al. 2016,
arXiv:1508.07909, over bytes as in Radford et al. 2019: any text can be written and nothing is unknown.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from transformers import PreTrainedTokenizerBase

from alignment.config import Job, TokenizerConfig
from alignment.data.documents import read_documents, training_documents
from alignment.data.text import encode_text, train_tokenizer
from alignment.models.card import card_of
from alignment.models.checkpoints import save_directory


def run(job: Job, config: TokenizerConfig) -> dict[str, Any]:
    """Learn the merges and write the tokenizer's directory."""
    documents = training_documents(config.text)
    tokenizer = train_tokenizer(documents, config.vocabulary)
    names = {"training text": documents} | {Path(path).name: read_documents(path) for path in config.held_out_text}
    metrics = [bytes_per_token(tokenizer, kept, name) for name, kept in names.items()]
    path = Path(job.output) / "checkpoint"
    card = card_of(job, config, metrics=metrics, vocabulary=len(tokenizer))
    digest = save_directory(path, tokenizer.save_pretrained, card, kind="tokenizer")
    return {"checkpoint": {"path": str(path), "sha256": digest}, "metrics": metrics}


def bytes_per_token(tokenizer: PreTrainedTokenizerBase, documents: list[str], name: str) -> dict[str, Any]:
    """How much text a token stands for: more is shorter sequences, at the price of a larger vocabulary."""
    size = sum(len(document.encode()) for document in documents)
    tokens = sum(len(encode_text(tokenizer, document)) for document in documents)
    return {"key": f"bytes_per_token:{name}", "value": size / max(1, tokens), "n": size, "unit": "bytes/token"}
