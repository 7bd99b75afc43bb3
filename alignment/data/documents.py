"""Plain text as documents, and documents as one stream of tokens."""

from __future__ import annotations

import gzip
from pathlib import Path

import torch
from transformers import PreTrainedTokenizerBase

from alignment.config import JobError
from alignment.data.text import encode_text


def read_documents(path: str | Path) -> list[str]:
    """The documents of a text file, parted by blank lines. Raises JobError."""
    opened = gzip.open if str(path).endswith(".gz") else open
    try:
        with opened(path, "rt", encoding="utf-8") as stream:
            parts = stream.read().split("\n\n")
    except (OSError, EOFError, UnicodeDecodeError) as error:
        raise JobError(f"cannot read the text {path}: {error}") from error
    return [part.strip() for part in parts if part.strip()]


def training_documents(paths: list[str]) -> list[str]:
    """The documents of all files in order; a file named twice counts twice. Raises JobError where there is none."""
    documents = [document for path in paths for document in read_documents(path)]
    if not documents:
        raise JobError(f"{', '.join(paths)} holds no document; name a file with text")
    return documents


def encode_documents(tokenizer: PreTrainedTokenizerBase, documents: list[str]) -> torch.Tensor:
    """(N,) ids: an end token, then each document and its end token."""
    stream = [tokenizer.eos_token_id]
    for document in documents:
        stream += [*encode_text(tokenizer, document), tokenizer.eos_token_id]
    return torch.tensor(stream, dtype=torch.int32)


def positions_of(ids: torch.Tensor, end: int) -> torch.Tensor:
    """Positions (B, T) that begin again at each end token of ids (B, T): it stands before the document it opens."""
    places = torch.arange(ids.shape[1], device=ids.device).expand_as(ids)
    return places - torch.where(ids == end, places, 0).cummax(dim=1).values
