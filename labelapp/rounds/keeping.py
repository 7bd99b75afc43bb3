"""What a stage leaves in the bucket, so that another machine goes on with its round: its states, then what it made."""

import threading
from pathlib import Path

import structlog
from django.conf import settings

from labelapp import storage

LOOK_SECONDS = 1.0
log = structlog.get_logger(__name__)


class StateKeeper:
    """Puts a running stage's state into the bucket every few minutes, and once more when the stage ends.

    Without a bucket it does nothing. A bucket that is away costs a resumption from an older state, and no step.
    """

    def __init__(self, directory: Path):
        self.folder, self.done = directory / "state", threading.Event()
        self.seen, self.thread = 0, threading.Thread(target=self._run, name="states", daemon=True)

    def __enter__(self) -> "StateKeeper":
        if storage.bucket():
            self.thread.start()
        return self

    def __exit__(self, *_) -> None:
        self.done.set()
        if storage.bucket():
            self.thread.join()
            self._keep()

    def _run(self) -> None:
        while not self.done.wait(max(LOOK_SECONDS, 60 * settings.ARTIFACT_STATE_MINUTES)):
            self._keep()

    def _keep(self) -> None:
        state = self.folder / "state.safetensors"
        try:
            if state.is_file() and (written := state.stat().st_mtime_ns) != self.seen:
                beside = [self.folder / "best.safetensors", self.folder.parent / "metrics.jsonl"]
                beside += sorted(self.folder.glob("rank-*.safetensors"))  # what other ranks hold of it
                storage.keep_state(self.folder, [state, *filter(Path.is_file, beside)])
                self.seen = written
        except (storage.StoreAway, OSError) as error:
            log.warning("state not kept", folder=str(self.folder), error=str(error))


def keep_outcome(directory: Path, checkpoint: dict | None) -> None:
    """Put what a stage made and said into the bucket: the checkpoint first, then each file. Raises StoreAway."""
    if checkpoint:
        storage.keep(checkpoint["path"], checkpoint["sha256"])
    storage.keep_files(path for path in sorted(directory.iterdir()) if path.is_file())
