"""Artifacts: directories whose manifest.json names every file's SHA-256. Torch-free.

The digest of an artifact is the SHA-256 of the bytes of its manifest.json: one string vouches for the whole directory.
"""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path
from typing import Any

MANIFEST = "manifest.json"


class ArtifactError(ValueError):
    """An artifact is missing, incomplete or was changed. The message names the file and both digests."""


def file_sha256(path: str | Path) -> str:
    with open(path, "rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def write_manifest(directory: str | Path, *, kind: str, **facts: Any) -> str:
    """Name every file below the directory in manifest.json (fsynced) and return the artifact's digest."""
    directory = Path(directory)
    body = manifest_of(directory, kind=kind, **facts)
    with open(directory / MANIFEST, "w") as stream:
        stream.write(body)
        stream.flush()
        os.fsync(stream.fileno())
    return file_sha256(directory / MANIFEST)


def manifest_of(directory: Path, *, kind: str, **facts: Any) -> str:
    """The text of the manifest that names every file below the directory as it is now."""
    paths = sorted(p for p in directory.rglob("*") if p.is_file() and p.name != MANIFEST)
    files = {
        str(p.relative_to(directory)): {"sha256": file_sha256(p), "bytes": p.stat().st_size} for p in paths
    }
    return json.dumps({"kind": kind, **facts, "files": files}, indent=2, sort_keys=True, ensure_ascii=False) + "\n"


def pin(directory: str | Path) -> str:
    """The digest of a directory as it is now, for a job that names a path alone. Raises ArtifactError.

    A directory without a manifest, such as one from a model hub, gets the digest of the manifest it would have.
    """
    directory = Path(directory)
    if not directory.is_dir():
        raise ArtifactError(f"{directory} is no directory; name a snapshot, a checkpoint or a model's directory")
    if (directory / MANIFEST).is_file():
        digest = file_sha256(directory / MANIFEST)
        verify(directory, digest)
        return digest
    return hashlib.sha256(manifest_of(directory, kind="directory").encode()).hexdigest()


def read_manifest(directory: str | Path) -> dict[str, Any]:
    try:
        return json.loads((Path(directory) / MANIFEST).read_text())
    except (OSError, json.JSONDecodeError) as error:
        raise ArtifactError(f"{directory} is no artifact: {error}") from error


def verify(directory: str | Path, sha256: str) -> dict[str, Any]:
    """Check every byte against the digest and return the manifest. Raises ArtifactError naming the first difference."""
    directory = Path(directory)
    manifest = read_manifest(directory)
    if (found := file_sha256(directory / MANIFEST)) != sha256:
        raise ArtifactError(f"{directory / MANIFEST} has SHA-256 {found}, expected {sha256}")
    for name, facts in manifest["files"].items():
        path = directory / name
        if not path.is_file():
            raise ArtifactError(f"{path} is missing")
        if (found := file_sha256(path)) != facts["sha256"]:
            raise ArtifactError(f"{path} has SHA-256 {found}, expected {facts['sha256']}")
    return manifest


def split_of(group: str, test_share: float) -> str:
    """"test" for a fixed pseudo-random share of groups, else "train": a pure function of the group's name."""
    draw = int(hashlib.sha256(group.encode()).hexdigest()[:8], 16) / 2**32
    return "test" if draw < test_share else "train"
