"""Where finished artifacts are kept behind ARTIFACT_DIR: in a bucket (ARTIFACT_STORE) that several machines share.

Without a bucket ARTIFACT_DIR is all there is, and nothing here does anything. With one, ARTIFACT_DIR is each machine's
cache, at the same path everywhere. In the bucket an artifact lies under artifacts/DIGEST/, its manifest.json written
last: what has none was cut off and does not count. States of unfinished stages lie under states/, other files under
files/, both by their path below ARTIFACT_DIR.
"""

import functools
import hashlib
import json
import os
import re
import secrets
import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from datetime import timedelta
from pathlib import Path
from typing import Any

from django.conf import settings

from alignment.manifest import MANIFEST, ArtifactError, file_sha256, verify, write_manifest

DIGEST = re.compile("[0-9a-f]{64}")
PIECE = 8 * 2**20  # bytes held at a time
PATIENCE = {"max_retries": 4, "retry_timeout": timedelta(seconds=40)}


class StoreAway(Exception):
    """The bucket does not answer, or refuses us; nothing is known of what is in it."""


def bucket():
    """The shared store; None where ARTIFACT_DIR is all there is."""
    if not settings.ARTIFACT_STORE:
        return None
    return _open(settings.ARTIFACT_STORE, settings.ARTIFACT_STORE_ENDPOINT)


@functools.lru_cache(maxsize=4)
def _open(url: str, endpoint: str):
    from obstore.store import from_url

    more = {"endpoint": endpoint, "client_options": {"allow_http": endpoint.startswith("http://")}} if endpoint else {}
    return from_url(url, region=os.environ.get("AWS_REGION", "us-east-1"), retry_config=PATIENCE, **more)


@contextmanager
def asking() -> Iterator[None]:
    """Turn whatever a bucket says, except that something is not there, into StoreAway with its first line."""
    from obstore.exceptions import BaseError

    try:
        yield
    except FileNotFoundError:
        raise
    except (BaseError, ConnectionError, PermissionError, TimeoutError) as error:
        first = str(error).strip().splitlines()[0]
        raise StoreAway(f"ARTIFACT_STORE {settings.ARTIFACT_STORE} does not serve us: {first}") from error


def keep(directory: str | Path, digest: str) -> None:
    """Put a finished artifact into the bucket, its manifest last; nothing where it is there. Raises StoreAway."""
    if bucket() and not is_kept(digest):
        _put_directory(f"artifacts/{digest}", Path(directory))


def is_kept(digest: str) -> bool:
    """Whether the bucket holds the artifact whole, as far as its manifest vouches."""
    return _kept_manifest(f"artifacts/{digest}", digest) is not None


def is_here(directory: str | Path) -> bool:
    """Whether the directory's files are on this machine; without a bucket there is no other place."""
    return bucket() is None or (Path(directory) / MANIFEST).is_file()


def at_hand(directory: str | Path, digest: str) -> str:
    """The artifact's directory on this machine, brought from the bucket and verified where it is not here.

    Raises ArtifactError, StoreAway.
    """
    place = Path(directory)
    if is_here(place):
        return str(place)
    if not place.is_relative_to(settings.ARTIFACT_DIR):  # a machine that keeps its files elsewhere put it there
        place = settings.ARTIFACT_DIR / "fetched" / digest
    if not (place / MANIFEST).is_file():
        _bring(f"artifacts/{digest}", place, digest)
    return str(place)


def manifest_at_hand(directory: str | Path, digest: str) -> dict[str, Any]:
    """The artifact's manifest, without its files where only the bucket has them. Raises ArtifactError, StoreAway."""
    path = Path(directory) / MANIFEST
    content = path.read_bytes() if path.is_file() else _kept_manifest(f"artifacts/{digest}", digest)
    if content is None:
        where = f"neither here nor in {settings.ARTIFACT_STORE}" if bucket() else "missing"
        raise ArtifactError(f"{path} is {where}")
    if hashlib.sha256(content).hexdigest() != digest:
        raise ArtifactError(f"{path} does not have the digest {digest[:12]}…")
    return json.loads(content)


def keep_files(paths: Iterable[Path]) -> None:
    """Put single files below ARTIFACT_DIR into the bucket. Raises StoreAway."""
    if store := bucket():
        import obstore

        for path in paths:
            with asking():
                obstore.put(store, f"files/{_name(path)}", path)


def file_at_hand(path: str | Path) -> Path:
    """The file on this machine, brought from the bucket where it is not here; it may be in neither.

    Raises ArtifactError for one that is named by its SHA-256 and has another, StoreAway.
    """
    path, store = Path(path), bucket()
    if store and not path.is_file() and path.is_relative_to(settings.ARTIFACT_DIR):
        path.parent.mkdir(parents=True, exist_ok=True)
        draft = path.with_name(f"{path.name}.{secrets.token_hex(4)}.partial")
        try:
            _get(f"files/{_name(path)}", draft)
            if DIGEST.fullmatch(path.stem) and (found := file_sha256(draft)) != path.stem:
                raise ArtifactError(f"files/{_name(path)} in {settings.ARTIFACT_STORE} has SHA-256 {found}")
            draft.replace(path)
        except FileNotFoundError:
            pass
        finally:
            draft.unlink(missing_ok=True)
    return path


def file_if_at_hand(path: str | Path) -> Path:
    """As file_at_hand, for a page: what cannot be brought now is not there."""
    with suppress(ArtifactError, StoreAway):
        return file_at_hand(path)
    return Path(path)


def keep_state(folder: Path, files: Iterable[Path]) -> None:
    """Put a stage's resumable state into the bucket, then forget the ones before it. Raises StoreAway.

    folder: where it lies on any machine. The files are linked first: their owner replaces them, and never changes them.
    """
    if bucket() is None:
        return
    draft = folder.with_name(f"{folder.name}.{secrets.token_hex(4)}.partial")
    draft.mkdir()
    try:
        for file in files:  # in this order: a later file may be newer than an earlier one, never older
            (shutil.copy2 if file.suffix == ".jsonl" else os.link)(file, draft / file.name)
        digest = write_manifest(draft, kind="state")
        prefix = f"states/{_name(folder)}"
        _put_directory(f"{prefix}/{digest}", draft)
        for older in {name.removeprefix(f"{prefix}/").partition("/")[0] for name in kept(prefix)} - {digest}:
            forget(f"{prefix}/{older}")
    finally:
        shutil.rmtree(draft, ignore_errors=True)


def bring_state(folder: Path) -> list[str]:
    """Bring a state from the bucket to its place, where the bucket has a whole one; what is wrong with others."""
    if bucket() is None:
        return []
    prefix, wrong = f"states/{_name(folder)}", []
    objects = kept(prefix)
    whole = [name for name in objects if name.endswith(f"/{MANIFEST}")]
    for name in sorted(whole, key=lambda name: objects[name]["last_modified"], reverse=True):
        digest = name.split("/")[-2]
        try:
            _bring(f"{prefix}/{digest}", folder, digest)
            return wrong
        except ArtifactError as error:
            wrong.append(str(error))
    return wrong


def kept(prefix: str) -> dict[str, dict]:
    """What the bucket holds under a prefix: name to facts, among them size and last_modified. Raises StoreAway."""
    import obstore

    with asking():
        return {facts["path"]: facts for batch in obstore.list(bucket(), prefix) for facts in batch}


def forget(prefix: str) -> None:
    """Remove everything under a prefix, the manifest first: what a removal that is cut off leaves is no artifact."""
    import obstore

    names = kept(prefix)
    manifests = [name for name in names if name.endswith(f"/{MANIFEST}")]
    with asking():
        for batch in (manifests, [name for name in names if name not in manifests]):
            if batch:
                obstore.delete(bucket(), batch)


def _put_directory(prefix: str, directory: Path) -> None:
    import obstore

    names = json.loads((directory / MANIFEST).read_text())["files"]
    with asking():
        for name in [*names, MANIFEST]:
            obstore.put(bucket(), f"{prefix}/{name}", directory / name)


def _kept_manifest(prefix: str, digest: str) -> bytes | None:
    import obstore

    if (store := bucket()) is None:
        return None
    try:
        with asking():
            content = bytes(obstore.get(store, f"{prefix}/{MANIFEST}").bytes())
    except FileNotFoundError:
        return None
    return content if hashlib.sha256(content).hexdigest() == digest else None


def _bring(prefix: str, place: Path, digest: str) -> None:
    """Fetch a directory beside its place, verify every byte, rename it there. Raises ArtifactError, StoreAway."""
    if (content := _kept_manifest(prefix, digest)) is None:
        raise ArtifactError(f"{place} is neither here nor, whole, in {settings.ARTIFACT_STORE}/{prefix}")
    place.parent.mkdir(parents=True, exist_ok=True)
    draft = place.with_name(f"{place.name}.{secrets.token_hex(4)}.partial")
    try:
        for name in json.loads(content)["files"]:
            if not (draft / name).resolve().is_relative_to(draft.resolve()):
                raise ArtifactError(f"{prefix}/{MANIFEST} names {name!r}, which is outside of it")
            (draft / name).parent.mkdir(parents=True, exist_ok=True)
            _get(f"{prefix}/{name}", draft / name)
        (draft / MANIFEST).write_bytes(content)
        verify(draft, digest)
        if not (place / MANIFEST).is_file():  # else somebody here was quicker
            shutil.rmtree(place, ignore_errors=True)
            draft.rename(place)
    except FileNotFoundError as error:
        raise ArtifactError(f"{settings.ARTIFACT_STORE}/{prefix} lacks a file of its manifest: {error}") from error
    finally:
        shutil.rmtree(draft, ignore_errors=True)


def _get(name: str, path: Path) -> None:
    import obstore

    with asking(), open(path, "wb") as stream:
        for piece in obstore.get(bucket(), name).stream(min_chunk_size=PIECE):
            stream.write(piece)
        stream.flush()
        os.fsync(stream.fileno())


def _name(path: Path) -> str:
    return path.relative_to(settings.ARTIFACT_DIR).as_posix()
