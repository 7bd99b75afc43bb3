"""Which versions are in memory, and which should be."""

import threading
from pathlib import Path
from typing import Any

from alignment.manifest import ArtifactError
from labelapp.models import Version
from labelapp.storage import StoreAway, is_here, manifest_at_hand

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
    """Bytes of the weights, here or in the bucket; 0 where they are missing, which loading then says."""
    if is_here(version.path):
        return sum(path.stat().st_size for path in Path(version.path).glob("*.safetensors"))
    try:
        files = manifest_at_hand(version.path, version.digest)["files"]
    except (ArtifactError, StoreAway, OSError):
        return 0
    return sum(facts["bytes"] for name, facts in files.items() if name.endswith(".safetensors"))
