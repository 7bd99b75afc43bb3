"""Artifacts that no row cites any more: what killed attempts, crashed freezes and finished rounds left on the disk.

What is found is read from the disk first and from the database afterwards, so whatever is cited meanwhile is kept; and
nothing younger than a limit is found, since a directory is written before the row that cites it.
"""

import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from django.conf import settings

from labelapp.models import Audit, Round, Snapshot, Stage, Version
from labelapp.models.rounds import ACTIVE_STATES

YOUNG = 24 * 3600.0  # seconds


class Unused(NamedTuple):
    """A file or directory below ARTIFACT_DIR that may go."""

    path: Path
    bytes: int
    why: str


def find_unused(young: float = YOUNG) -> list[Unused]:
    """Everything that nothing cites and that has not changed for `young` seconds."""
    candidates = [found for found in _candidates(settings.ARTIFACT_DIR) if _age(found[0]) >= young]
    cited, busy = _cited(), _busy()
    free = {path: why for path, why in candidates if not _is_cited(path, cited) and not _is_busy(path, busy)}
    return [Unused(path, _bytes(path), why) for path, why in free.items() if path.parent not in free]


def remove(unused: Unused) -> None:
    if unused.path.is_dir():
        shutil.rmtree(unused.path)
    else:
        unused.path.unlink(missing_ok=True)


def _candidates(root: Path) -> Iterator[tuple[Path, str]]:
    """What may be unused, with the reason why, if nothing cites it."""
    for path in root.glob("snapshots/*"):
        yield path, "a freeze that was cut off" if path.name.endswith(".partial") else "a snapshot without a row"
    for path in root.glob("prompts/*"):
        yield path, "prompts of no round"
    for path in root.glob("models/*"):
        yield path, "a model that was not taken in"
    for path in root.glob("dry-runs/*"):
        yield path, "a dry run that was cut off"
    for path in root.glob("rounds/*/*/*"):
        yield path, "an attempt that another one followed"
    for path in root.glob("rounds/*/*/*/state"):
        yield path, "what a round that is over would have resumed from"


def _cited() -> set[str]:
    """Every path that a row names, and every file that a recipe or a job names."""
    found = set(Snapshot.objects.values_list("path", flat=True)) | set(Version.objects.values_list("path", flat=True))
    found |= set(Stage.objects.values_list("output", flat=True))
    found |= set(Audit.objects.values_list("result_path", flat=True))
    for recipe in Round.objects.values_list("recipe", flat=True).iterator():
        found |= {text for spec in recipe.get("stages", ()) for text in texts_in(spec["config"])}
    for job in Stage.objects.values_list("job", flat=True).iterator():
        found |= set(texts_in(job.get("config", {})))
        found |= {given["path"] for given in job.get("inputs", {}).values()}
    return found - {""}


def texts_in(value: Any) -> Iterator[str]:
    """Every text in a config, at any depth: a file may be named in a group of settings."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict | list):
        for each in value.values() if isinstance(value, dict) else value:
            yield from texts_in(each)


def _busy() -> set[str]:
    """Directories of rounds that are not over: their supervisor goes on from whatever lies there."""
    active = Round.objects.filter(state__in=ACTIVE_STATES)
    return {str(settings.ARTIFACT_DIR / "rounds" / str(pk)) for pk in active.values_list("pk", flat=True)}


def _is_cited(path: Path, cited: set[str]) -> bool:
    """Whether a row names the path or something in it."""
    inside = f"{path}/"
    return any(name == str(path) or name.startswith(inside) for name in cited)


def _is_busy(path: Path, busy: set[str]) -> bool:
    return any(str(path).startswith(f"{directory}/") for directory in busy)


def _age(path: Path) -> float:
    """Seconds since anything in it changed."""
    times = [entry.lstat().st_mtime for entry in (path, *path.rglob("*"))]
    return time.time() - max(times)


def _bytes(path: Path) -> int:
    files = path.rglob("*") if path.is_dir() else [path]
    return sum(entry.lstat().st_size for entry in files if not entry.is_dir())
