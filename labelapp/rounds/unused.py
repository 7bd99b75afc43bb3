"""Artifacts that no row cites any more: what killed attempts, crashed freezes and finished rounds left on the disk, and
in the bucket behind it.

What is found is read from the disk first and from the database afterwards, so whatever is cited meanwhile is kept; and
nothing younger than a limit is found, since a directory is written before the row that cites it.
"""

import shutil
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, NamedTuple

from django.conf import settings

from labelapp import storage
from labelapp.models import Audit, Round, Snapshot, Stage, Version
from labelapp.models.rounds import ACTIVE_STATES

YOUNG = 24 * 3600.0  # seconds


class Unused(NamedTuple):
    """A file or directory below ARTIFACT_DIR that may go, or what lies in the bucket under a prefix."""

    path: Path | str
    bytes: int
    why: str


def find_unused(young: float = YOUNG) -> list[Unused]:
    """Everything that nothing cites and that has not changed for `young` seconds."""
    candidates = [found for found in _candidates(settings.ARTIFACT_DIR) if _age(found[0]) >= young]
    cited, busy = _cited(), _busy()
    free = {path: why for path, why in candidates if not _is_cited(path, cited) and not _is_busy(path, busy)}
    return [Unused(path, _bytes(path), why) for path, why in free.items() if path.parent not in free]


def find_unused_in_bucket(young: float = YOUNG) -> list[Unused]:
    """What nothing cites of what the bucket holds, by the same rules. Raises StoreAway."""
    if storage.bucket() is None:
        return []
    groups: dict[str, list[dict]] = {}
    for name, facts in storage.kept("").items():
        groups.setdefault(_group(name), []).append(facts)
    then = datetime.now(UTC) - timedelta(seconds=young)
    old = {name: found for name, found in groups.items() if max(facts["last_modified"] for facts in found) <= then}
    digests, paths, busy = _cited_digests(), _cited(), _busy()
    free = {name: why for name in old if (why := _why_free(name, digests, paths, busy))}
    return [Unused(name, sum(facts["size"] for facts in old[name]), why) for name, why in free.items()]


def _group(name: str) -> str:
    """What goes or stays as one: an artifact, one stage's states, a file."""
    kind, _, rest = name.partition("/")
    parts = {"artifacts": 1, "states": 5}.get(kind)
    return "/".join([kind, *rest.split("/")[:parts]]) if parts else name


def _why_free(name: str, digests: set[str], paths: set[str], busy: set[str]) -> str:
    """Why a group of the bucket may go; empty where something cites it, or where it is nothing of ours."""
    kind, _, rest = name.partition("/")
    path = settings.ARTIFACT_DIR / rest
    if kind == "artifacts":
        return "" if rest in digests else "an artifact without a row"
    if kind == "states":
        return "" if _is_busy(path, busy) else "what a round that is over would have resumed from"
    if kind == "files" and not _is_busy(path, busy) and not {str(path), str(path.parent)} & paths:
        return "a file that no row cites"
    return ""


def _cited_digests() -> set[str]:
    """The digest of every artifact that a row names."""
    found = {digest for model in (Snapshot, Version) for digest in model.objects.values_list("digest", flat=True)}
    for job, result in Stage.objects.values_list("job", "result").iterator():
        found |= {given["sha256"] for given in job.get("inputs", {}).values()}
        found.add(((result or {}).get("checkpoint") or {}).get("sha256", ""))
    return found


def remove(unused: Unused) -> None:
    if isinstance(unused.path, str):
        return storage.forget(unused.path)
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
    digests = _cited_digests()
    for path in root.glob("fetched/*"):
        if path.name not in digests:
            yield path, "a copy of what nothing cites"
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
