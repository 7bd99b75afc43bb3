"""Which versions are in memory, and which should be."""

import threading
from pathlib import Path
from typing import Any

from labelapp.models import Version

FEWEST = 2  # the one that answers and the one to go back to
WORKING_SPACE = 1.5  # a version needs its weights, and half as much again while it loads and answers


class Shelf:
    """Loaded versions by digest. Taking one off frees it once nothing answers from it any more."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.held: dict[str, Any] = {}

    def get(self, digest: str) -> Any:
        with self.lock:
            return self.held.get(digest)

    def put(self, digest: str, loaded: Any) -> None:
        with self.lock:
            self.held[digest] = loaded

    def remove(self, digest: str) -> None:
        with self.lock:
            self.held.pop(digest, None)

    def digests(self) -> list[str]:
        with self.lock:
            return list(self.held)


def fitting(wanted: list[Version], budget: int) -> list[Version]:
    """The most wanted versions that fit into so many bytes; the first two always."""
    chosen, needed, seen = [], 0.0, set()
    for version in wanted:
        if version.digest not in seen:
            needed += WORKING_SPACE * weight_bytes(version)
            seen.add(version.digest)
        if len(seen) > FEWEST and needed > budget:
            break
        chosen.append(version)
    return chosen


def weight_bytes(version: Version) -> int:
    """Bytes of the weights on the disk; 0 where they are missing, which loading then says."""
    return sum(path.stat().st_size for path in Path(version.path).glob("*.safetensors"))
