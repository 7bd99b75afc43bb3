"""Scripts that a page always needs together, served as one file: one request instead of four, and no build step."""

import os
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

from django.contrib.staticfiles import finders
from django.core.files.storage import FileSystemStorage

JOINED = {"js/desk.js": ("js/worktime.js", "js/drafts.js", "js/labeling.js", "js/outbox.js")}


class JoinedFinder(finders.BaseFinder):
    """Finds a joined script, made anew from its parts whenever it is looked for."""

    def __init__(self, *_args, **_kwargs):
        self.directory = TemporaryDirectory(prefix="labelapp-static-")
        self.storage = FileSystemStorage(location=self.directory.name)

    def check(self, **_kwargs) -> list:
        return []

    def find(self, path: str, find_all: bool = False, **_kwargs) -> str | list[str]:
        if path not in JOINED:
            return []
        found = str(self._join(path))
        return [found] if find_all else found

    def list(self, _ignored) -> Iterator[tuple[str, FileSystemStorage]]:
        for path in JOINED:
            self._join(path)
            yield path, self.storage

    def _join(self, path: str) -> Path:
        """Write the file where its parts changed; renamed into place, so that nobody reads half of it."""
        target = Path(self.directory.name, path)
        text = "".join(Path(finders.find(part)).read_text() for part in JOINED[path])
        if not target.exists() or target.read_text() != text:
            target.parent.mkdir(parents=True, exist_ok=True)
            written = target.with_suffix(f".{os.urandom(4).hex()}")
            written.write_text(text)
            written.replace(target)
        return target
