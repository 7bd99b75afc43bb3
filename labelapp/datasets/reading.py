"""A file as numbered lines in constant memory, gzip or not."""

import gzip
import io
import zlib
from collections.abc import Iterator
from typing import BinaryIO

MAX_LINE = 1024 * 1024
GZIP = b"\x1f\x8b"


class BadFile(ValueError):
    """The file as a whole cannot be read. The message says why and what to do."""


def numbered_lines(stream: BinaryIO, *, max_bytes: int | None = None) -> Iterator[tuple[int, bytes]]:
    """(row number from 1, line) of every line that is not blank; a line over MAX_LINE comes cut, one byte too long.

    Raises BadFile: damaged gzip data, or more than max_bytes of text (after unpacking).
    """
    stream = stream if hasattr(stream, "peek") else io.BufferedReader(stream)
    text = gzip.open(stream) if stream.peek(2)[:2] == GZIP else stream
    number = size = 0
    try:
        while line := text.readline(MAX_LINE + 1):
            number, size = number + 1, size + len(line)
            if len(line) > MAX_LINE:
                size += _skip_line(text, max_bytes)
            if max_bytes is not None and size > max_bytes:
                raise BadFile(f"more than {max_bytes // 10**6} MB of text: use `manage.py import` on the server")
            if line.strip():
                yield number, line
    except (OSError, EOFError, zlib.error) as error:
        raise BadFile(f"the gzip data are damaged after row {number}: {error}") from error


def _skip_line(text: BinaryIO, max_bytes: int | None) -> int:
    """Read to the end of an overlong line, piece by piece, and return how much that was."""
    skipped = 0
    while piece := text.readline(MAX_LINE):
        skipped += len(piece)
        if piece.endswith(b"\n") or (max_bytes is not None and skipped > max_bytes):
            break
    return skipped
